"""The file: what a file field holds. A ref that can be opened, read and served; or an upload that waits for the flush.

A ``StoredFile`` holds one value that passes through at most three forms: the raw JSON text as the database gave
it, the ref decoded from it on first use, and, before it is stored, the staged upload. Storing promotes the same
``StoredFile`` in place, so what an application holds before the flush is what it holds after it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Protocol, cast

from granite_storage.aio import AsyncReader, iterate
from granite_storage.backends.base import Ability, LocalPathBackend, has_ability
from granite_storage.exceptions import (
    ConfigurationError,
    InvalidRefError,
    NotStoredError,
)
from granite_storage.intake.spool import spooled
from granite_storage.intake.stopping import check_stop
from granite_storage.intake.upload import Upload
from granite_storage.refs import StoredObjectRef
from granite_storage.saving import save
from granite_storage.verifying import check_digest, check_size, digest_of

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager

__all__ = ["CHUNK_SIZE", "Home", "StoredFile"]

CHUNK_SIZE = 256 * 1024
"""How many bytes are read at once where nothing else is asked for."""

_MAX_SUFFIX = 32  # bytes; a longer one is no suffix that a tool looks at


class Home(Protocol):
    """Where a file belongs: a file field, or a manager itself."""

    @property
    def manager(self) -> StorageManager:
        """The manager that opens the file; raises ConfigurationError if there is none yet."""
        ...


class _Nowhere:
    """The home of a file that came without one, such as one that was unpickled by itself."""

    @property
    def manager(self) -> NoReturn:
        raise ConfigurationError(
            "this StoredFile has no manager, since it was unpickled outside of a model; "
            "get one that has with manager.file(stored.ref)"
        )


NOWHERE = _Nowhere()


class StoredFile:
    """A stored object, or an upload staged to be stored by the next flush.

    Applications do not make one: a model's file field holds it, and ``manager.store()`` and ``manager.file()`` give it.

    Two files are equal if they are the same object (backend and location); a staged one is equal only to itself
    and cannot be hashed yet.

    >>> from granite_storage import MemoryStorageBackend, StorageManager, StoragePolicy
    >>> manager = StorageManager({"memory": MemoryStorageBackend()}, {"notes": StoragePolicy("notes", "memory")})
    >>> note = manager.store("notes", "remember")
    >>> note.size, note.content_type, note.text()
    (8, 'text/plain', 'remember')
    >>> with note.open() as stream:
    ...     _ = stream.seek(2)
    ...     stream.read(3)
    b'mem'
    """

    __slots__ = ("__weakref__", "_home", "_value")

    def __init__(self, home: Home, value: str | bytes | Mapping[str, Any] | StoredObjectRef | Upload) -> None:
        self._home = home
        self._value = value

    # What it is

    @property
    def staged(self) -> bool:
        """Whether it is an upload that no flush has stored yet."""
        return isinstance(self._value, Upload)

    @property
    def ref(self) -> StoredObjectRef:
        """The ref in the column.

        :raises NotStoredError: if the upload is still staged.
        :raises InvalidRefError: if what stands in the column is not a ref.
        """
        value = self._value
        if isinstance(value, StoredObjectRef):
            return value
        if isinstance(value, Upload):
            raise NotStoredError(
                f"{_name(value)} is staged and has no ref yet: flush the session, or store it with manager.store()"
            )
        ref = StoredObjectRef.from_json(value) if isinstance(value, (str, bytes)) else StoredObjectRef.from_dict(value)
        self._value = ref
        return ref

    def _readable(self) -> Upload | None:
        """The staged upload, made such that reading it now leaves it to be stored later."""
        upload = self.upload
        if upload is not None:
            upload.buffer()
        return upload

    @property
    def manager(self) -> StorageManager:
        """The manager that serves it."""
        return self._home.manager

    @property
    def upload(self) -> Upload | None:
        """The upload that waits for the flush, or None if it is stored."""
        return self._value if isinstance(self._value, Upload) else None

    @property
    def storage_key(self) -> str:
        """The name of the policy it was stored under."""
        return self.ref.storage_key

    @property
    def backend(self) -> str:
        """The manager's name for the backend it is in."""
        return self.ref.backend

    @property
    def location(self) -> str:
        """Where it is in its backend."""
        return self.ref.location

    @property
    def checksum(self) -> str:
        """``"<algorithm>:<hex digest>"`` of the content."""
        return self.ref.checksum

    @property
    def created_at(self) -> datetime | None:
        """When it was stored (UTC), or None if the ref does not say; raises InvalidRefError if it says no time."""
        text = self.ref.created_at
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InvalidRefError(f"ref member 'created_at': {text!r} is no ISO 8601 date and time") from error
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @property
    def size(self) -> int:
        """Bytes; of a staged upload too."""
        upload = self._readable()
        if upload is None:
            return self.ref.size
        if upload.size is not None:
            return upload.size
        with upload.open() as stream:
            return sum(len(chunk) for chunk in _chunks(stream, CHUNK_SIZE))

    @property
    def content_type(self) -> str | None:
        """The accepted media type; of a staged upload the one that was claimed for it."""
        value = self._value
        return value.content_type if isinstance(value, Upload) else self.ref.content_type

    @property
    def filename(self) -> str | None:
        """The filename that came with the upload, cleaned; never a path, and never what the object is called."""
        value = self._value
        return value.filename if isinstance(value, Upload) else self.ref.original_filename

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further JSON members; empty if there are none."""
        value = self._value
        return (value.extra if isinstance(value, Upload) else self.ref.extra) or {}

    # What can be done with it

    def open(self) -> BinaryIO:
        """A seekable binary stream over the content, a context manager.

        :raises ObjectNotFoundError: if the object is missing.
        """
        upload = self._readable()
        if upload is None:
            return self._home.manager.open_seekable(self.ref)
        with upload.open() as stream:
            return spooled(stream)

    def read(self) -> bytes:
        """The whole content."""
        upload = self._readable()
        if upload is None:
            return self._home.manager.get(self.ref)
        with upload.open() as stream:
            return stream.read()

    def text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole content as text.

        :raises UnicodeDecodeError: if it is not text in ``encoding``.
        """
        return self.read().decode(encoding, errors)

    def iter_bytes(self, chunk_size: int = CHUNK_SIZE) -> Generator[bytes]:
        """The content in pieces of at most ``chunk_size`` bytes."""
        if chunk_size < 1:
            raise ValueError(f"chunk_size is a number of bytes, 1 or more, not {chunk_size}")
        with self._stream() as stream:
            yield from _chunks(stream, chunk_size)

    def save_to(self, path: str | os.PathLike[str], *, verify: bool = False) -> Path:
        """Write the content to a file, which appears whole or not at all and replaces what was at ``path``.

        From a backend that can read several parts of a large object at once, they are.

        :param verify: compare it with the checksum in the ref while it comes, without a second pass.
        :returns: the path.
        :raises ObjectNotFoundError: if it is missing.
        :raises ChecksumMismatchError: if the object is not as long as its ref says, or with ``verify`` if its checksum
            is another; nothing is written then.
        :raises NotSupportedError: with ``verify``, if the ref's checksum is of no algorithm that Python has.
        :raises NotStoredError: with ``verify``, if the upload is still staged: there is nothing to compare it with.
        """
        return save(self, path, verify=verify)

    @contextmanager
    def as_path(self) -> Iterator[Path]:
        """A real file for tools that need one, valid inside the ``with`` block; not to be changed.

        Where the backend has real files it is the object itself, with no copy; else a temporary file.
        """
        if not self.staged:
            manager, ref = self._home.manager, self.ref
            backend = manager.backend_of(ref)
            if has_ability(backend, Ability.LOCAL_PATH):
                with cast("LocalPathBackend", backend).local_path(ref) as path:
                    yield path
                return
        suffix = Path(self.filename or "").suffix if self.staged else Path(self.ref.location).suffix
        if len(suffix.encode()) > _MAX_SUFFIX:
            suffix = ""
        with tempfile.TemporaryDirectory(prefix="granite-storage-") as folder:
            yield self.save_to(Path(folder, f"file{suffix}"))

    def url(
        self,
        *,
        expires: timedelta | float | None = None,
        download: bool = False,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL that gives the content to whoever has it, for an hour by default; see :meth:`StorageManager.url`.

        :raises NotStoredError: if the upload is still staged.
        """
        return self._home.manager.url(
            self.ref, expires=expires, download=download, filename=filename, content_type=content_type
        )

    def exists(self) -> bool:
        """Whether the object is there; a staged upload is not yet."""
        return not self.staged and self._home.manager.exists(self.ref)

    def verify(self) -> None:
        """Read the object once and compare it with its ref.

        :raises ObjectNotFoundError: if it is missing.
        :raises ChecksumMismatchError: if its size or checksum differs.
        :raises NotSupportedError: if the ref's checksum is of no algorithm that Python has.
        """
        ref, size = self.ref, 0
        digest = digest_of(ref)
        for chunk in self.iter_bytes(CHUNK_SIZE):
            digest.update(chunk)
            size += len(chunk)
        check_size(ref, size)
        check_digest(ref, digest)

    @contextmanager
    def _stream(self) -> Iterator[BinaryIO]:
        upload = self._readable()
        opened: AbstractContextManager[BinaryIO]
        opened = self._home.manager.open(self.ref) if upload is None else upload.open()
        with opened as stream:
            yield stream

    # The same, awaited: in threads of the manager's pool, with the event loop free

    @asynccontextmanager
    async def aopen(self) -> AsyncIterator[AsyncReader]:
        """:meth:`open`, awaited: ``async with file.aopen() as stream: await stream.read(8192)``."""
        pool = self._home.manager.pool
        async with AsyncReader(pool, await pool.run(self.open, undo=lambda stream: stream.close())) as reader:
            yield reader

    async def aread(self) -> bytes:
        """:meth:`read`, awaited."""
        return await self._home.manager.pool.run(self.read)

    async def atext(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """:meth:`text`, awaited."""
        return (await self.aread()).decode(encoding, errors)

    def aiter_bytes(self, chunk_size: int = CHUNK_SIZE) -> AsyncIterator[bytes]:
        """:meth:`iter_bytes`, awaited: ``async for chunk in file.aiter_bytes(): ...``."""
        return iterate(self._home.manager.pool, lambda: self.iter_bytes(chunk_size))

    async def asave_to(self, path: str | os.PathLike[str], *, verify: bool = False) -> Path:
        """:meth:`save_to`, awaited. If the task is cancelled it stops soon, and leaves nothing at ``path``."""
        return await self._home.manager.pool.run(lambda: self.save_to(path, verify=verify))

    async def aurl(
        self,
        *,
        expires: timedelta | float | None = None,
        download: bool = False,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """:meth:`url`, awaited: temporary credentials may have to be fetched anew."""
        return await self._home.manager.aurl(
            self.ref, expires=expires, download=download, filename=filename, content_type=content_type
        )

    async def aexists(self) -> bool:
        """:meth:`exists`, awaited."""
        return await self._home.manager.pool.run(self.exists)

    async def averify(self) -> None:
        """:meth:`verify`, awaited."""
        await self._home.manager.pool.run(self.verify)

    # Identity

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, (StoredFile, StoredObjectRef)):
            return NotImplemented
        if self.staged or (isinstance(other, StoredFile) and other.staged):
            return False
        try:
            return self.ref == (other.ref if isinstance(other, StoredFile) else other)
        except InvalidRefError:  # what cannot be read is no object, and must be replaceable by one
            return False

    def __hash__(self) -> int:
        if self.staged:
            raise TypeError("a staged upload has no identity to hash yet: flush the session first")
        return hash(self.ref)

    def __repr__(self) -> str:
        if self.staged:
            return "<StoredFile staged>"
        try:
            ref = self.ref
        except InvalidRefError:
            return "<StoredFile unreadable>"
        return f"<StoredFile {ref.storage_key} {ref.backend}:{ref.location} {ref.size} bytes {ref.content_type}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.staged:
            raise NotStoredError("a staged upload cannot be pickled: flush the session first")
        return _unpickle, (self._value,)

    def __copy__(self) -> StoredFile:
        return StoredFile(self._home, self._value)

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredFile:
        return self.__copy__()


def _unpickle(value: Any) -> StoredFile:
    return StoredFile(NOWHERE, value)


def _name(upload: Upload) -> str:
    return repr(upload.filename) if upload.filename else "the upload"


def _chunks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while chunk := stream.read(size):
        yield chunk
        check_stop()
