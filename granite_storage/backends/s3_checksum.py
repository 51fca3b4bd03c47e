"""The checksum that goes with the bytes to S3, which refuses them if it is not theirs, and keeps it.

It is a CRC32, which boto3's own uploads use by default, and which costs a third of what a SHA-256 does. It goes in a
header: boto3 makes a trailer of it over TLS, which several servers do not take.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

The client's setting ``request_checksum_calculation="when_required"`` leaves it out, for a server that stumbles over it.
A ``ChecksumAlgorithm`` among the arguments of a put takes its place; boto3 computes that one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from zlib import crc32

__all__ = ["begin_arguments", "checksum_of", "checksums_in"]

_NO_SUMS = ("ChecksumAlgorithm", "ChecksumType")


def begin_arguments(client: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a multipart upload, which announces the checksums that its parts will have."""
    return {**({"ChecksumAlgorithm": "CRC32"} if _is_wanted(client) else {}), **arguments}


def checksum_of(client: Any, arguments: Mapping[str, Any], content: bytearray) -> dict[str, str]:
    """What PutObject or UploadPart say about a body.

    :param arguments: of the put.
    """
    asked = arguments.get("ChecksumAlgorithm", "CRC32")
    if asked != "CRC32":
        return {"ChecksumAlgorithm": asked}
    if "ChecksumAlgorithm" in arguments or _is_wanted(client):
        return {"ChecksumCRC32": b64encode(crc32(content).to_bytes(4, "big")).decode()}
    return {}


def checksums_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """The checksums in an answer about a part, for completing its upload.

    >>> checksums_in({"ETag": "x", "ChecksumCRC32": "Jju6Xw==", "ChecksumType": "COMPOSITE"})
    {'ChecksumCRC32': 'Jju6Xw=='}
    """
    return {name: sum_ for name, sum_ in answer.items() if name.startswith("Checksum") and name not in _NO_SUMS}


def _is_wanted(client: Any) -> bool:
    return bool(client.meta.config.request_checksum_calculation != "when_required")
