"""What a backend is: the protocol, and the abilities a backend may declare.

The protocol is that of granite-storage 0.1.0, so a backend written for it works as it is. What a backend can do
beyond it, it declares in ``abilities``; callers ask :func:`has_ability` and never look at a backend's class.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, runtime_checkable

from granite_storage.object_settings import ObjectSettings
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
    COPY_FROM = (
        "copy_from(source, ref, key=...) copies from another backend of the same service, where copies_from(source)"
    )
    BATCH_DELETE = "delete_many(refs) deletes many objects in few requests"
    ORDERED_LISTING = "iter_objects(prefix, start_after) lists in the byte order of locations"
    LOCAL_PATH = "local_path(ref) gives a real file for reading"
    GROUP = "puts inside group() may become durable together, when it ends"
    LEFTOVERS = "remove_leftovers(before) removes what unfinished uploads left, and empty folders"
    PARALLEL_READ = "read_into(ref, file) writes an object into a file, several parts of it at once"
    PRESIGN = (
        "presign_get(ref, ...) gives a signed URL that a browser can fetch; object_path(ref) is its path below a CDN"
    )
    OBJECT_SETTINGS = (
        "put_bytes, put_stream and copy take settings=ObjectSettings(...), and keep what it says of encryption"
    )
    DIRECT_UPLOAD = "presign_upload() lets a browser upload into .incoming, and incoming() takes over what came"


class ObjectInfo(NamedTuple):
    """One object of a listing: its location, its size in bytes, and when it was last modified (UTC).

    A tuple, since listings make millions of them.
    """

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


class CopyFromBackend(Protocol):
    """A backend with :attr:`Ability.COPY_FROM`."""

    def copies_from(self, source: StorageBackend) -> bool:
        """Whether ``source`` is on the same service, so that copying from it may work; no request is made."""
        ...

    def copy_from(
        self,
        source: StorageBackend,
        ref: StoredObjectRef,
        *,
        key: str,
        content_type: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> None:
        """As :meth:`SettingsBackend.copy`, of an object in ``source``; raises BackendError if this one may not read it.

        ``settings`` are given only to a backend with :attr:`Ability.OBJECT_SETTINGS`.
        """
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


class GroupBackend(Protocol):
    """A backend with :attr:`Ability.GROUP`."""

    def group(self) -> AbstractContextManager[None]:
        """Puts and copies in the ``with`` block, and in threads that run in a copy of its context, belong together.

        Each is whole and visible when it returns, and durable at the latest when the block ends without an error. If
        the end raises (StorageError), none of them can be relied on, and all are still the caller's to delete. An error
        of the block comes out as it is.
        """
        ...


class LeftoversBackend(Protocol):
    """A backend with :attr:`Ability.LEFTOVERS`."""

    def remove_leftovers(
        self, before: datetime, *, prefixes: Collection[str] | None = None, dry_run: bool = False
    ) -> int:
        """Remove what puts that were cut off before ``before`` (UTC) left, and folders that are empty since then.

        Objects are never touched. It may run at any time, on several machines at once, while others put.

        :param prefixes: look only into these folders, where what was left tells its folder; by default into all.
        :param dry_run: remove nothing, only count.
        :returns: how many files, folders and multipart uploads were, or would be, removed.
        :raises BackendError: if the store fails; what was removed until then stays removed.
        """
        ...


class ParallelReadBackend(Protocol):
    """A backend with :attr:`Ability.PARALLEL_READ`."""

    def read_into(
        self, ref: StoredObjectRef, file: BinaryIO, *, follow: Callable[[bytes], object] | None = None
    ) -> int:
        """Write an object into a file, several parts of a large one at once, in bounded memory.

        All bytes are of one object, even if it is replaced meanwhile, or it is an error. It runs in threads of its
        own, never in those of a manager, and none is left when it returns or raises.

        :param file: an empty file on a disk, open for reading and writing; where it stands is not moved.
        :param follow: called in the caller's thread with the whole content, piece by piece, from its beginning, while
            later parts are still on their way: for a checksum.
        :returns: the object's size in bytes.
        :raises ObjectNotFoundError: if it is missing.
        :raises BackendError: if it changes meanwhile, or the store fails; what is in the file then is worth nothing.
        """
        ...


class PresignBackend(Protocol):
    """A backend with :attr:`Ability.PRESIGN`."""

    def presign_get(self, ref: StoredObjectRef, *, expires: int, content_type: str, content_disposition: str) -> str:
        """A URL that gives the object to whoever has it, for ``expires`` seconds (1 at least), with these two headers.

        Nobody asks whether the object is there.

        :raises InvalidURLError: if ``expires`` is beyond what the store can sign, naming its limit.
        :raises ConfigurationError: if there are no credentials to sign with.
        """
        ...

    def object_path(self, ref: StoredObjectRef) -> str:
        """Where the object is below a public base URL (:attr:`StoragePolicy.public_url`), not percent-encoded."""
        ...


class SettingsBackend(Protocol):
    """A backend with :attr:`Ability.OBJECT_SETTINGS`: its ``put_bytes`` takes ``settings`` as ``put_stream`` does.

    Callers give ``settings`` only if there are any. Where objects can be served straight from the store, each is
    stored with :func:`~granite_storage.serving.content_disposition` of its type and filename, settings or not. A store
    in which nothing is ever at rest may ignore all of it.
    """

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
        settings: ObjectSettings | None = None,
    ) -> StoredObjectRef:
        """As :meth:`StorageBackend.put_stream`; the settings go before what the backend does by itself."""
        ...

    def copy(
        self,
        ref: StoredObjectRef,
        *,
        key: str,
        content_type: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> None:
        """As :meth:`CopyBackend.copy`; the copy has these settings, and none that the object has."""
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
