"""Backends: where bytes live, by URL scheme.

=========================================  =======================================================
``file:///var/uploads``                    :class:`~granite_storage.backends.local.LocalStorageBackend`
``memory://``                              :class:`~granite_storage.backends.memory.MemoryStorageBackend`
``s3://bucket/prefix?region=eu-west-1``    :class:`~granite_storage.backends.s3.S3StorageBackend`
=========================================  =======================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo, StorageBackend, abilities_of, has_ability
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import BackendFactory, backend_from_url, known_schemes, register_backend
from granite_storage.backends.urls import BackendURL, mask_url

if TYPE_CHECKING:
    from granite_storage.backends.s3 import S3StorageBackend

__all__ = [
    "Ability",
    "BackendFactory",
    "BackendURL",
    "DeleteFailure",
    "LocalStorageBackend",
    "MemoryStorageBackend",
    "ObjectInfo",
    "S3StorageBackend",
    "StorageBackend",
    "abilities_of",
    "backend_from_url",
    "has_ability",
    "known_schemes",
    "mask_url",
    "register_backend",
]


def __getattr__(name: str) -> Any:
    """The S3 backend is eight modules, loaded when it is first asked for."""
    if name == "S3StorageBackend":
        from granite_storage.backends.s3 import S3StorageBackend

        globals()[name] = S3StorageBackend
        return S3StorageBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
