"""Objects in this process's memory: for tests, demonstrations and scratch data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, BinaryIO, ClassVar, Self

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo
from granite_storage.backends.listing import folder_of, is_listed
from granite_storage.backends.new_ref import new_ref
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import ConfigurationError, InvalidLocationError, ObjectExistsError, ObjectNotFoundError
from granite_storage.locations import check_location
from granite_storage.object_settings import ObjectSettings
from granite_storage.refs import StoredObjectRef

__all__ = ["MemoryStorageBackend"]

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Object:
    content: bytes
    modified: datetime


class MemoryStorageBackend:
    """Objects in a dict. They are gone with the backend, and no other process sees them. Settings mean nothing here.

    >>> backend = MemoryStorageBackend()
    >>> ref = backend.put_bytes(key="docs/a.txt", content=b"hello")
    >>> backend.get(ref), list(backend.iter_locations("docs"))
    (b'hello', ['docs/a.txt'])
    """

    backend_name = "memory"
    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {
            Ability.NO_OVERWRITE,
            Ability.RANGED_READ,
            Ability.STAT,
            Ability.COPY,
            Ability.BATCH_DELETE,
            Ability.ORDERED_LISTING,
            Ability.OBJECT_SETTINGS,  # nothing is ever at rest here, so that all promises about it are kept
        }
    )

    def __init__(self) -> None:
        # No lock, which a fork could leave locked: each method touches the dict in one step, atomic by itself.
        self._objects: dict[str, _Object] = {}

    @classmethod
    def from_url(cls, url: BackendURL) -> Self:
        """Make a backend of its own from ``memory://``.

        :raises ConfigurationError: if the URL says anything more.
        """
        url.read_options()
        if url.host or url.path.strip("/") or url.username is not None:
            raise ConfigurationError(f"backend URL {url.masked!r}: a memory URL is 'memory://' and nothing more")
        return cls()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
        settings: ObjectSettings | None = None,
    ) -> StoredObjectRef:
        """Store ``content`` at the location ``key``; raises InvalidLocationError, ObjectExistsError."""
        return self.put_stream(
            key=key,
            stream=io.BytesIO(content),
            checksum=f"sha256:{sha256(content).hexdigest()}",
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
            settings=settings,
        )

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
        """Store what ``stream`` still gives; raises InvalidLocationError, ObjectExistsError."""
        check_location(key)
        ref = new_ref(
            self.backend_name,
            key,
            checksum=checksum,
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
        )
        if key in self._objects:
            raise _exists(key)
        content = b"".join(iter(lambda: stream.read(_CHUNK), b""))
        self._publish(key, content)
        return ref.replace(size=len(content))

    def get(self, ref: StoredObjectRef) -> bytes:
        """The whole content; raises ObjectNotFoundError."""
        return self._object(ref).content

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A seekable stream; raises ObjectNotFoundError."""
        return io.BytesIO(self._object(ref).content)

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether there is an object at the ref's location."""
        return check_location(ref.location) in self._objects

    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        """Size and time of an object; raises ObjectNotFoundError."""
        found = self._object(ref)
        return ObjectInfo(ref.location, len(found.content), found.modified)

    def copy(
        self,
        ref: StoredObjectRef,
        *,
        key: str,
        content_type: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> None:
        """Copy an object to the new location ``key``; raises ObjectNotFoundError, ObjectExistsError."""
        self._publish(check_location(key), self._object(ref).content)

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none."""
        self._objects.pop(check_location(ref.location), None)

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects; gives those whose location is no location."""
        failures = []
        for ref in refs:
            try:
                self.delete(ref)
            except InvalidLocationError as error:
                failures.append(DeleteFailure(ref, error))
        return failures

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        """All locations in the folder ``prefix``, in byte order."""
        return (info.location for info in self.iter_objects(prefix))

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects in the folder ``prefix`` in byte order, those after ``start_after``; raises InvalidLocationError."""
        folder = folder_of(prefix)
        # Code point order, which Python compares by, is the byte order of UTF-8.
        names = sorted(
            name
            for name in list(self._objects)
            if name.startswith(folder) and (start_after is None or name > start_after) and is_listed(name, folder)
        )
        return self._infos(names)

    def _infos(self, names: list[str]) -> Iterator[ObjectInfo]:
        for name in names:
            found = self._objects.get(name)
            if found is not None:
                yield ObjectInfo(name, len(found.content), found.modified)

    def _object(self, ref: StoredObjectRef) -> _Object:
        found = self._objects.get(check_location(ref.location))
        if found is None:
            raise ObjectNotFoundError(f"no object is at {ref.location!r} in memory")
        return found

    def _publish(self, location: str, content: bytes) -> None:
        made = _Object(content, datetime.now(UTC))
        if self._objects.setdefault(location, made) is not made:
            raise _exists(location)


def _exists(location: str) -> ObjectExistsError:
    return ObjectExistsError(f"an object is at {location!r} in memory already; store a replacement at a new location")
