"""Every error this library raises.

All are a :class:`StorageError`, and each class carries the HTTP status that a web application may
answer with, so that one handler serves all of them::

    @app.exception_handler(StorageError)
    async def storage_error(request, error):
        return JSONResponse({"detail": str(error)}, status_code=error.http_status)

>>> ContentTooLargeError("too large").http_status
413
>>> isinstance(ObjectNotFoundError("gone"), StorageError)
True
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.report import ConversionReport, RowFailure

__all__ = [
    "BackendError",
    "BackendUnavailableError",
    "BulkStatementError",
    "ChecksumMismatchError",
    "ConfigurationError",
    "ContentTooLargeError",
    "ContentTooSmallError",
    "ContentTypeNotAllowedError",
    "ConversionError",
    "InvalidLocationError",
    "InvalidRefError",
    "InvalidURLError",
    "InvalidUploadError",
    "NotStoredError",
    "NotSupportedError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "OwnershipError",
    "ReplicaError",
    "StagedValueError",
    "StorageError",
    "TokenError",
    "TokenExpiredError",
    "TokenUsedError",
    "UnassignableError",
    "UploadConsumedError",
    "UploadExpiredError",
    "ValidationError",
]


class StorageError(Exception):
    """The base of every error of this library; :attr:`http_status` is 500 unless a subclass says otherwise."""

    http_status: ClassVar[int] = 500
    """The HTTP status (RFC 9110) that fits the error."""


class ConfigurationError(StorageError):
    """Policies, backends and file fields do not fit together.

    :attr:`problems` lists every mistake found, not only the first.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(message + lines)


class ConversionError(StorageError):
    """Rows could not be converted, and are as they were; what was converted before them is committed.

    :attr:`failures` are the rows that are to blame (the first 1 000), each with its primary key and its error;
    :attr:`report` is what the run did until then.
    """

    def __init__(
        self, message: str, failures: Iterable[RowFailure] = (), *, report: ConversionReport | None = None
    ) -> None:
        self.failures: tuple[RowFailure, ...] = tuple(failures)
        self.report = report
        super().__init__(message)


class InvalidRefError(StorageError, ValueError):
    """A value is not a ref, or a ref could not be stored and read back; the message names the member."""


class InvalidLocationError(StorageError, ValueError):
    """A location is empty, too long, or would leave the backend's root."""

    http_status = 422


class InvalidURLError(StorageError, ValueError):
    """A URL was asked for that cannot be: its expiry, its content type or its filename is none."""


class InvalidUploadError(StorageError, ValueError):
    """The base of everything that is wrong with what somebody uploaded."""

    http_status = 422


class ContentTooLargeError(InvalidUploadError):
    """The content is larger than the policy's ``max_size`` (bytes)."""

    http_status = 413


class ContentTooSmallError(InvalidUploadError):
    """The content is smaller than the policy's ``min_size`` (bytes)."""


class ContentTypeNotAllowedError(InvalidUploadError):
    """The content's type is not among the policy's ``content_types``."""

    http_status = 415


class ValidationError(InvalidUploadError):
    """A validator of the policy refused the content."""


class UnassignableError(InvalidUploadError, TypeError):
    """A value that a file field does not take: a dict, a text-mode or closed stream, a directory, ..."""


class UploadConsumedError(InvalidUploadError):
    """The source of an upload was read once and cannot be read again."""


class NotStoredError(StorageError):
    """A staged upload was asked for what only a stored object has (its location, its ref)."""

    http_status = 409


class StagedValueError(StorageError, TypeError):
    """A staged upload reached an SQL statement that cannot store it."""


class BulkStatementError(StorageError, TypeError):
    """A bulk statement would share an object between rows, lose one, or leave one that nobody names."""


class ObjectNotFoundError(StorageError):
    """No object is at the location."""

    http_status = 404


class ObjectExistsError(StorageError):
    """An object is at the location already: objects are never overwritten."""

    http_status = 409


class UploadExpiredError(StorageError):
    """A transaction is too old to commit: a sweep may soon take its oldest upload for one that was left over."""

    http_status = 503


class ReplicaError(StorageError):
    """A database lags behind another, so that nobody can tell from it which objects are left over."""


class OwnershipError(StorageError):
    """Objects belong to another owner, or to another database: they may be read, and not added to or deleted."""


class TokenError(StorageError):
    """A token that was not made here, was changed, or is for something or somebody else."""

    http_status = 403


class TokenExpiredError(TokenError):
    """A token is too old."""

    http_status = 410


class TokenUsedError(TokenError):
    """A token that works once was used already."""

    http_status = 410


class NotSupportedError(StorageError):
    """The backend does not have the ability that was asked of it."""

    http_status = 501


class ChecksumMismatchError(StorageError):
    """The stored bytes are not those that the ref describes."""


class BackendError(StorageError):
    """The backend failed (network, disk, permissions); the cause is chained."""

    http_status = 503


class BackendUnavailableError(BackendError):
    """The backend is overloaded or cannot be reached: the same may succeed later. Its own retries are used up."""
