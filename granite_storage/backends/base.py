"""What a backend is: the protocol, and the abilities a backend may declare.

The protocol is that of granite-storage 0.1.0, so a backend written for it works as it is. What a backend can do
beyond it, it declares in ``abilities``; callers ask :func:`has_ability` and never look at a backend's class.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from granite_storage.refs import StoredObjectRef

__all__ = [
    "Ability",
    "DeleteFailure",
    "ObjectInfo",
    "StorageBackend",
    "abilities_of",
    "has_ability",
    "in_folder",
]


class Ability(enum.Enum):
    """What a backend may declare that it can do beyond the protocol."""

    NO_OVERWRITE = "a put to a location that has an object raises ObjectExistsError"
    RANGED_READ = "open() gives a seekable stream that reads only what is asked for"
    STAT = "stat(ref) tells size and time without reading"
    COPY = "copy(ref, key=...) copies inside the backend, without the bytes passing through here"
    BATCH_DELETE = "delete_many(refs) deletes many objects in few requests"
    ORDERED_LISTING = "iter_objects(prefix, start_after) lists in the byte order of locations"
    LOCAL_PATH = "local_path(ref) gives a real file for reading"
    PRESIGN = "url(ref, ...) gives a URL that a browser can fetch"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing: its location, its size in bytes, and when it was last modified (UTC)."""

    location: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    """One object that a batch delete could not delete, and why."""

    ref: StoredObjectRef
    error: Exception


@runtime_checkable
class StorageBackend(Protocol):
    """Where bytes live.

    All locations are relative to the backend's root. Every method may be called from several threads at once.
    Errors are :class:`~granite_storage.StorageError`; what the backend's own SDK raised is chained.
    """

    backend_name: str
    """The kind of backend, such as ``"local"``; 0.1.0 wrote it into refs."""

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store ``content`` at the location ``key``; the ref's storage key is empty."""
        ...

    def put_stream(
        self,
        *,
        key: str,
        stream: BinaryIO,
        size: int | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store what ``stream`` still gives, in bounded memory; if reading fails nothing becomes visible.

        ``size`` (bytes) and ``checksum`` are hints where the caller knows them before the stream is read. With no
        ``checksum`` the ref's may be empty: the manager counts and hashes by itself.
        """
        ...

    def get(self, ref: StoredObjectRef) -> bytes:
        """The whole content; raises ObjectNotFoundError."""
        ...

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A binary stream, a context manager; raises ObjectNotFoundError."""
        ...

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none."""
        ...

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether there is an object at the ref's location."""
        ...

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        """All locations in the folder ``prefix`` (``docs`` gives ``docs/...``, never ``docs-old/...``)."""
        ...


class StatBackend(Protocol):
    """A backend with :attr:`Ability.STAT`."""

    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        """Size and time of an object; raises ObjectNotFoundError."""
        ...


class CopyBackend(Protocol):
    """A backend with :attr:`Ability.COPY`."""

    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        """Copy an object to the new location ``key``; raises ObjectNotFoundError, ObjectExistsError."""
        ...


class BatchDeleteBackend(Protocol):
    """A backend with :attr:`Ability.BATCH_DELETE`."""

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects, those that are gone already included; gives those that could not be deleted."""
        ...


class OrderedListingBackend(Protocol):
    """A backend with :attr:`Ability.ORDERED_LISTING`."""

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects in the folder ``prefix`` in the byte order (UTF-8) of locations, those after ``start_after``."""
        ...


class LocalPathBackend(Protocol):
    """A backend with :attr:`Ability.LOCAL_PATH`."""

    def local_path(self, ref: StoredObjectRef) -> AbstractContextManager[Path]:
        """A path to read the object at, for as long as the context lasts; raises ObjectNotFoundError."""
        ...


def abilities_of(backend: object) -> frozenset[Ability]:
    """The abilities a backend declares; none for one written to 0.1.0's protocol.

    >>> abilities_of(object())
    frozenset()
    """
    return frozenset(getattr(backend, "abilities", ()))


def has_ability(backend: object, ability: Ability) -> bool:
    """Whether a backend declares an ability."""
    return ability in abilities_of(backend)


def in_folder(location: str, prefix: str | None) -> bool:
    """Whether a location lies in the folder ``prefix``; every location lies in no prefix.

    >>> in_folder("docs/a", "docs"), in_folder("docs-old/a", "docs"), in_folder("docs/a", None)
    (True, False, True)
    """
    folder = (prefix or "").strip("/")
    return not folder or location.startswith(folder + "/")
