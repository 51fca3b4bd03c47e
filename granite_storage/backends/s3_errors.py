"""What boto3 raises, as errors of this library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError

__all__ = ["s3_errors"]

_MISSING = {"NoSuchKey", "NotFound", "404"}
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_REMEDIES = {
    "NoSuchBucket": "; create the bucket, or correct its name",
    "AccessDenied": "; look at the policies of the bucket and of the user",
    "403": "; look at the policies of the bucket and of the user",
    "EntityTooLarge": "; give the size beforehand, or raise part_size",
}


@contextmanager
def s3_errors(bucket: str, location: str, doing: str, *, changed: bool = False) -> Iterator[None]:
    """Turn boto3's errors into ours, the cause chained; all others pass as they are.

    :param changed: a failed precondition means that the object is not the one that was opened, not that one exists.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.exceptions import HTTPClientError as TransportError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise ObjectNotFoundError(f"no object is at {location!r} in bucket {bucket!r}") from error
        if code in _EXISTS and changed:
            raise BackendError(f"{location!r} in bucket {bucket!r} was changed while it was read") from error
        if code in _EXISTS:
            message = (
                f"an object is at {location!r} in bucket {bucket!r} already; store a replacement at a new location"
            )
            raise ObjectExistsError(message) from error
        reason = error.response.get("Error", {}).get("Message") or "no reason given"
        remedy = _REMEDIES.get(code, "")
        raise BackendError(f"{doing} {location!r} in bucket {bucket!r} failed: {code} ({reason}){remedy}") from error
    except (BotoCoreError, Boto3Error, TransportError) as error:
        raise BackendError(
            f"{doing} {location!r} in bucket {bucket!r} failed: {type(error).__name__}: {error}"
        ) from error
