"""Presigned uploads to S3: a form (POST) whose policy the server enforces, or a PUT of one exact size.

A POST's policy document holds the key, the type and the range of sizes (Amazon S3 API Reference, "Browser-Based Uploads
Using POST"). A PUT has no such document; what can be signed is its headers, the length among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from granite_storage.backends.incoming import UploadConditions
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_presign import signing_v4
from granite_storage.exceptions import NotSupportedError
from granite_storage.presigned import PresignedRequest

__all__ = ["LARGEST_REQUEST", "presign_upload"]

LARGEST_REQUEST = 5 * 1024**3
"""The largest object (bytes) that one request makes: S3's limit for a POST and for a PUT."""


def presign_upload(
    client: Any, target: Mapping[str, str], method: str, conditions: UploadConditions
) -> PresignedRequest:
    """Sign an upload with Signature Version 4, for the bucket's own endpoint; nothing is sent.

    :param target: ``Bucket`` and ``Key``.
    :param method: ``"POST"`` or ``"PUT"``.
    :raises NotSupportedError: for a PUT that could not be held to one size and type.
    :raises ConfigurationError: if there are no credentials to sign with.
    """
    with s3_errors(target["Bucket"], target["Key"], "signing an upload to"), signing_v4(client, target["Bucket"]):
        sign = _post if method == "POST" else _put
        return sign(client, target, conditions)


def _post(client: Any, target: Mapping[str, str], wanted: UploadConditions) -> PresignedRequest:
    fields: dict[str, str] = {}
    largest = min(wanted.max_size, LARGEST_REQUEST)
    conditions: list[Any] = [["content-length-range", wanted.min_size, largest]]
    if wanted.content_type.endswith("/"):
        conditions.append(["starts-with", "$Content-Type", wanted.content_type])
    else:
        fields["Content-Type"] = wanted.content_type
        conditions.append({"Content-Type": wanted.content_type})
    signed = client.generate_presigned_post(
        target["Bucket"],
        target["Key"],
        Fields=fields,
        Conditions=conditions,
        ExpiresIn=int(wanted.expires.total_seconds()),
    )
    return PresignedRequest(signed["url"], "POST", largest, fields=signed["fields"])


def _put(client: Any, target: Mapping[str, str], wanted: UploadConditions) -> PresignedRequest:
    if wanted.min_size != wanted.max_size or wanted.max_size > LARGEST_REQUEST:
        raise NotSupportedError("a PUT is signed for one size of at most 5 GiB; give the size, or use a POST")
    if wanted.content_type.endswith("/"):
        raise NotSupportedError("a PUT is signed for one content type; give the content_type, or use a POST")
    url = client.generate_presigned_url(
        "put_object",
        Params={**target, "ContentType": wanted.content_type, "ContentLength": wanted.max_size},
        ExpiresIn=int(wanted.expires.total_seconds()),
    )
    # A browser sends Content-Length by itself, and lets no script set it.
    return PresignedRequest(url, "PUT", wanted.max_size, headers={"Content-Type": wanted.content_type})
