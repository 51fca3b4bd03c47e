"""Whether an object is ours: for when the answer to the request that makes it was lost.

boto3 sends a request again whose answer did not come. If the first one had made the object, the second is told that an
object is there already (``If-None-Match: *``), or that there is no such upload. So each put writes a random mark into
the object's metadata, and by it the object that is there is known for its own, or for another's. An interrupt
(KeyboardInterrupt) loses an answer as well; what was made then is deleted, since nobody will name it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["MARK", "landed", "marked", "undone_if_interrupted"]

MARK = "granite-upload"
"""The name of the mark among an object's metadata (``x-amz-meta-granite-upload``)."""

_TELLING = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload", "InternalError", "409", "412"}
_OWNER = ("RequestPayer", "ExpectedBucketOwner")
_READ = (*_OWNER, "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")


def marked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a put, with a mark of its own.

    >>> sorted(marked({"Metadata": {"project": "x"}})["Metadata"])
    ['granite-upload', 'project']
    """
    return {**arguments, "Metadata": {**arguments.get("Metadata", {}), MARK: secrets.token_hex(16)}}


def landed(client: Any, target: Mapping[str, str], arguments: Mapping[str, Any], error: Exception) -> str | None:
    """The ETag of the object that was made though the request failed; None if it was not, or if nobody can tell.

    :param target: ``Bucket`` and ``Key``.
    :param arguments: as :func:`marked` gave them.
    :param error: what the request raised.
    """
    if not _may_have_landed(error):
        return None
    try:
        return _etag_of_ours(client, target, arguments)
    except Exception:  # noqa: BLE001 - the caller raises what the request raised
        return None


@contextmanager
def undone_if_interrupted(client: Any, target: Mapping[str, str], arguments: Mapping[str, Any]) -> Iterator[None]:
    """If an interrupt ends the block, whose request makes an object, the object is deleted if it was made.

    What the server makes later still, or cannot delete, is left to the sweep. Arguments as of :func:`landed`.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException:
        with suppress(Exception):
            if _etag_of_ours(client, target, arguments) is not None:
                client.delete_object(**target, **_of(arguments, _OWNER))
        raise


def _etag_of_ours(client: Any, target: Mapping[str, str], arguments: Mapping[str, Any]) -> str | None:
    head = client.head_object(**target, **_of(arguments, _READ))
    ours = head.get("Metadata", {}).get(MARK) == arguments["Metadata"][MARK]
    return str(head["ETag"]) if ours else None


def _of(arguments: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in names}


def _may_have_landed(error: Exception) -> bool:
    from botocore.exceptions import ClientError, SSLError
    from botocore.exceptions import HTTPClientError as TransportError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or str(error.response.get("Error", {}).get("Code", "")) in _TELLING
    # A connection that could not be made is no TransportError but for these.
    return isinstance(error, TransportError) and not isinstance(error, SSLError)
