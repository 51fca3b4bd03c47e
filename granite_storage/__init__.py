"""granite-storage: files beside a database, committed and rolled back with their rows.

Models declare file fields with :func:`FileColumn`; a :class:`StorageManager` knows the policies and the backends; what
a field holds is a :class:`StoredFile`. The README has the first steps.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo, StorageBackend
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url, register_backend
from granite_storage.exceptions import (
    BackendError,
    BackendUnavailableError,
    ChecksumMismatchError,
    ConfigurationError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    ConversionError,
    InvalidLocationError,
    InvalidRefError,
    InvalidUploadError,
    InvalidURLError,
    NotStoredError,
    NotSupportedError,
    ObjectExistsError,
    ObjectNotFoundError,
    OwnershipError,
    ReplicaError,
    StagedValueError,
    StorageError,
    TokenError,
    TokenExpiredError,
    TokenUsedError,
    UnassignableError,
    UploadConsumedError,
    UploadExpiredError,
    ValidationError,
)
from granite_storage.files import StoredFile
from granite_storage.intake.stream import SizeLimitedStream
from granite_storage.intake.upload import Upload
from granite_storage.intake.validators import Candidate, Validator
from granite_storage.manager import StorageManager
from granite_storage.object_settings import ObjectSettings
from granite_storage.orm import (
    Assignable,
    FileColumn,
    FileMapped,
    StoredObjectRefType,
    indexed_location,
    indexed_member,
    metadata_options,
    portable_storage_ref_type,
)
from granite_storage.policies import StoragePolicy
from granite_storage.presigned import PresignedUpload
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.s3 import S3StorageBackend
    from granite_storage.maintenance.sweep_report import SweepReport

__all__ = [
    "Ability",
    "Assignable",
    "BackendError",
    "BackendUnavailableError",
    "Candidate",
    "ChecksumMismatchError",
    "ConfigurationError",
    "ContentTooLargeError",
    "ContentTooSmallError",
    "ContentTypeNotAllowedError",
    "ConversionError",
    "DeleteFailure",
    "FileColumn",
    "FileMapped",
    "InvalidLocationError",
    "InvalidRefError",
    "InvalidURLError",
    "InvalidUploadError",
    "LocalStorageBackend",
    "MemoryStorageBackend",
    "NotStoredError",
    "NotSupportedError",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "ObjectSettings",
    "OwnershipError",
    "PresignedUpload",
    "ReplicaError",
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
    "SweepReport",
    "TokenError",
    "TokenExpiredError",
    "TokenUsedError",
    "UnassignableError",
    "Upload",
    "UploadConsumedError",
    "UploadExpiredError",
    "ValidationError",
    "Validator",
    "backend_from_url",
    "indexed_location",
    "indexed_member",
    "metadata_options",
    "portable_storage_ref_type",
    "register_backend",
]


_LATER = {
    "S3StorageBackend": "granite_storage.backends.s3",  # ten modules
    "SweepReport": "granite_storage.maintenance.sweep_report",
}


def __getattr__(name: str) -> Any:
    """What few programs need at once is loaded when it is first asked for."""
    if name in _LATER:
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
