"""Backends: where bytes live, by URL scheme.

=========================================  =======================================================
``file:///var/uploads``                    :class:`~granite_storage.backends.local.LocalStorageBackend`
``memory://``                              :class:`~granite_storage.backends.memory.MemoryStorageBackend`
``s3://bucket/prefix?region=eu-west-1``    :class:`~granite_storage.backends.s3.S3StorageBackend`
=========================================  =======================================================
"""

from __future__ import annotations

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo, StorageBackend, abilities_of, has_ability
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import BackendFactory, backend_from_url, known_schemes, register_backend
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.urls import BackendURL, mask_url

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
