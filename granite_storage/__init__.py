"""granite-storage: files beside a database, committed and rolled back with their rows.

Models declare file fields with :func:`FileColumn`; a :class:`StorageManager` knows the policies and the backends; what
a field holds is a :class:`StoredFile`. The README has the first steps.
"""

from typing import TYPE_CHECKING, Any

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo, StorageBackend
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url, register_backend
from granite_storage.exceptions import (
    BackendError,
    ChecksumMismatchError,
    ConfigurationError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidLocationError,
    InvalidRefError,
    InvalidUploadError,
    NotStoredError,
    NotSupportedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StagedValueError,
    StorageError,
    UnassignableError,
    UploadConsumedError,
    ValidationError,
)
from granite_storage.files import StoredFile
from granite_storage.intake.stream import SizeLimitedStream
from granite_storage.intake.upload import Upload
from granite_storage.intake.validators import Candidate, Validator
from granite_storage.manager import StorageManager
from granite_storage.orm import (
    Assignable,
    FileColumn,
    FileMapped,
    StoredObjectRefType,
    indexed_location,
    portable_storage_ref_type,
)
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.s3 import S3StorageBackend

__all__ = [
    "Ability",
    "Assignable",
    "BackendError",
    "Candidate",
    "ChecksumMismatchError",
    "ConfigurationError",
    "ContentTooLargeError",
    "ContentTooSmallError",
    "ContentTypeNotAllowedError",
    "DeleteFailure",
    "FileColumn",
    "FileMapped",
    "InvalidLocationError",
    "InvalidRefError",
    "InvalidUploadError",
    "LocalStorageBackend",
    "MemoryStorageBackend",
    "NotStoredError",
    "NotSupportedError",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "S3StorageBackend",
    "SizeLimitedStream",
    "StagedValueError",
    "StorageBackend",
    "StorageError",
    "StorageManager",
    "StoragePolicy",
    "StoredFile",
    "StoredObjectRef",
    "StoredObjectRefType",
    "UnassignableError",
    "Upload",
    "UploadConsumedError",
    "ValidationError",
    "Validator",
    "backend_from_url",
    "indexed_location",
    "portable_storage_ref_type",
    "register_backend",
]


def __getattr__(name: str) -> Any:
    """The S3 backend is eight modules, loaded when it is first asked for."""
    if name == "S3StorageBackend":
        from granite_storage.backends.s3 import S3StorageBackend

        globals()[name] = S3StorageBackend
        return S3StorageBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
