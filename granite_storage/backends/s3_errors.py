"""What boto3 raises, as errors of this library: each names the bucket, the location, the reason and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from granite_storage.backends.s3_remedies import is_temporary, remedy_of
from granite_storage.backends.s3_retries import tried
from granite_storage.exceptions import (
    BackendError,
    BackendUnavailableError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["refused", "s3_errors", "storage_error"]

_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_NO_CODE = {"404", "NotFound"}  # of a HEAD: its answer has no body to hold one
_SETTINGS = {"SSLError", "ProxyConnectionError", "InvalidProxiesConfigError"}  # no time mends these
_LONGEST = 300
_URL_SECRETS = re.compile(r"(?<=://)[^\s/@\"']*@|\?[^\s\"']*")
_VALUES = re.compile(r"value: .*?, (?=type: |valid )", re.DOTALL)


@contextmanager
def s3_errors(bucket: str, location: str, doing: str, *, changed: bool = False) -> Iterator[None]:
    """Turn boto3's errors into ours, the cause chained; all others pass as they are.

    :param doing: such as ``"reading"``; the location and the bucket follow in the message.
    :param changed: the object was there before: if it is missing it was deleted since, and a failed precondition means
        that it is another one by now, not that one exists.
    """
    try:
        yield
    except Exception as error:
        ours = storage_error(error, bucket, location, doing, changed=changed)
        if ours is None:
            raise
        raise ours from error


def storage_error(
    error: Exception, bucket: str, location: str, doing: str, *, changed: bool = False
) -> StorageError | None:
    """The error to raise in place of one of boto3's; None for any other. Arguments as of :func:`s3_errors`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.exceptions import HTTPClientError as TransportError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError as BodyError  # which boto3 lets through where a body is iterated or parsed

    what = f"{location!r} in bucket {bucket!r}"
    if isinstance(error, ClientError):
        return _of_answer(error, what, doing, changed)
    if not isinstance(error, (BotoCoreError, Boto3Error, ResponseParserError, BodyError)):
        return None
    kind = type(error).__name__
    reason = f"{kind}: {_harmless(str(error))}"
    interrupted = (TransportError, NoConnectionError, IncompleteReadError, BodyError)
    if isinstance(error, interrupted) and kind not in _SETTINGS:
        return BackendUnavailableError(_message(doing, what, reason, error, remedy_of(kind), always=True))
    return BackendError(_message(doing, what, reason, error, remedy_of(kind)))


def _of_answer(error: ClientError, what: str, doing: str, changed: bool) -> StorageError:
    told = error.response.get("Error", {})
    answer = error.response.get("ResponseMetadata", {})
    code = str(told.get("Code", ""))
    if (code == "NoSuchKey" and error.operation_name != "PutObject") or (
        code in _NO_CODE and error.operation_name == "HeadObject"
    ):
        return ObjectNotFoundError(f"{what} was deleted while it was read" if changed else f"no object is at {what}")
    if changed and (code in _EXISTS or code == "InvalidRange"):  # a shorter one is at its place
        return BackendError(f"{what} was changed while it was read")
    if code in _EXISTS:
        return ObjectExistsError(f"an object is at {what} already; store a replacement at a new location")
    reason = f"{code} ({_harmless(str(told.get('Message') or 'no reason given'))})"
    request = answer.get("RequestId") or answer.get("HTTPHeaders", {}).get("x-amz-request-id")
    if request:
        reason += f", request {request}"
    remedy = remedy_of(code, error.response)
    if is_temporary(code, answer.get("HTTPStatusCode", 0)):
        return BackendUnavailableError(_message(doing, what, reason, error, remedy, always=True))
    return BackendError(_message(doing, what, reason, error, remedy))


def refused(code: str, message: str | None, what: str, *, later: bool) -> BackendError:
    """The error for one key of a batch, which the server refused in an answer that is none.

    :param what: such as ``"deleting 'docs/a' in bucket 'b'"``.
    :param later: whether it may succeed later.
    """
    remedy = remedy_of(code)
    kind = BackendUnavailableError if later else BackendError
    reason = f"{code} ({_harmless(message or 'no reason given')})"
    return kind(f"{what} failed: {reason}" + (f"; {remedy}" if remedy else ""))


def _message(doing: str, what: str, reason: str, error: Exception, remedy: str, *, always: bool = False) -> str:
    times = tried(error)
    if times is not None and (always or times > 1):
        reason += f", tried {times} time{'s' * (times != 1)}"
    return f"{doing} {what} failed: {reason}" + (f"; {remedy}" if remedy else "")


def _harmless(reason: str) -> str:
    """Without what may be secret: user, password and query (a signature) of URLs, and values of arguments (keys)."""
    reason = _VALUES.sub("", _URL_SECRETS.sub("", reason))
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "..."
