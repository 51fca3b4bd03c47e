"""The storage manager: policies and backends together. It works without any ORM."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from granite_storage.aio import AsyncReader, WorkerPool
from granite_storage.backends.base import Ability, StorageBackend, has_ability
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url
from granite_storage.copying import copy_inside
from granite_storage.exceptions import ConfigurationError, StorageError, UnassignableError
from granite_storage.files import StoredFile
from granite_storage.intake.coerce import coerce
from granite_storage.intake.upload import Upload
from granite_storage.locations import new_location
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef
from granite_storage.resolve import resolve_backend_key
from granite_storage.storing import location_of_0_1, put_upload

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["StorageManager"]


class StorageManager:
    """Policies and backends by name.

    :param backends: name -> backend, or its URL, such as ``"s3://my-bucket/production?region=eu-west-1"``.
    :param policies: name -> policy.
    :param max_workers: how many threads the manager uses at most for uploads that are stored side by side and for
        its async methods.
    :raises ConfigurationError: if a URL makes no backend.

    >>> manager = StorageManager(
    ...     backends={"memory": "memory://"},
    ...     policies={"documents": StoragePolicy("documents", "memory", max_size=1000)},
    ... )
    >>> stored = manager.store("documents", Upload(b"%PDF-1.7 ...", filename="report.pdf"))
    >>> stored.content_type, stored.size
    ('application/pdf', 12)
    >>> manager.store("documents", bytes(1001))
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.ContentTooLargeError: the upload is larger than 1 000 bytes, the ...
    """

    def __init__(
        self,
        backends: Mapping[str, StorageBackend | str],
        policies: Mapping[str, StoragePolicy],
        *,
        max_workers: int = 8,
    ) -> None:
        if max_workers < 1:
            raise ConfigurationError(f"max_workers is a number of threads, 1 or more, not {max_workers}")
        self._backends = _made(backends)
        self._policies = dict(policies)
        self.pool = WorkerPool(max_workers)
        self.attached: dict[MetaData, Engine | None] = {}
        """The MetaDatas it serves, and the engine of each where :meth:`attach` was told."""

    @property
    def backends(self) -> Mapping[str, StorageBackend]:
        """The backends by name."""
        return self._backends

    @property
    def policies(self) -> Mapping[str, StoragePolicy]:
        """The policies by name."""
        return self._policies

    @property
    def manager(self) -> StorageManager:
        """Itself: a manager is the home of the files it stores outside of any model."""
        return self

    def __repr__(self) -> str:
        return f"<StorageManager policies: {', '.join(self._policies)}; backends: {', '.join(self._backends)}>"

    # What is configured

    def get_policy(self, storage_key: str) -> StoragePolicy:
        """The policy of that name.

        :raises StorageError: "Unknown storage policy: ...".
        """
        try:
            return self._policies[storage_key]
        except KeyError:
            known = ", ".join(map(repr, self._policies)) or "none"
            raise StorageError(f"Unknown storage policy: {storage_key!r}; the manager has {known}") from None

    def get_backend_for_policy(self, policy: StoragePolicy) -> StorageBackend:
        """The backend that a policy stores in.

        :raises StorageError: "Unknown backend: ...".
        """
        try:
            return self._backends[policy.backend_key]
        except KeyError:
            known = ", ".join(map(repr, self._backends)) or "none"
            raise StorageError(f"Unknown backend: {policy.backend_key!r}; the manager has {known}") from None

    def identity(self, ref: StoredObjectRef) -> tuple[str, str]:
        """What makes a ref's object the same as another's: the manager's name for its backend, and its location.

        :raises StorageError: if the ref's backend is not known.
        """
        return resolve_backend_key(ref.backend, ref.storage_key, self._backends, self._policies), ref.location

    def backend_of(self, ref: StoredObjectRef) -> StorageBackend:
        """The backend that holds a ref's object.

        :raises StorageError: "Unknown backend: ...".
        """
        return self._backends[self.identity(ref)[0]]

    # Storing

    def store(self, policy: str, source: Any) -> StoredFile:
        """Store a source under a policy, outside of any transaction.

        Assign the file to a field to hand it over to a row: ``document.report = manager.store("documents", upload)``.

        :param policy: the policy's name.
        :param source: bytes, str, a path, a binary stream, an :class:`Upload`, a framework's upload, a ``StoredFile``.
        :raises StorageError: what is wrong with the source (see its subclasses); nothing stays behind then.
        """
        if isinstance(source, StoredFile) and not source.staged:
            return self.copy(policy, source)
        upload = coerce(source.upload if isinstance(source, StoredFile) else source)
        if upload is None:
            raise UnassignableError(f"there is nothing to store under policy {policy!r}: no file was chosen")
        return StoredFile(self, self.store_upload(policy, upload))

    def store_upload(self, policy: str, upload: Upload) -> StoredObjectRef:
        """Store a staged upload at a fresh location and give its ref."""
        slot = self.get_policy(policy)
        backend = self.get_backend_for_policy(slot)
        return put_upload(backend, slot, upload, lambda accepted: new_location(slot.prefix, accepted.suffix))

    def copy(self, policy: str, file: StoredFile) -> StoredFile:
        """Copy a stored file to a fresh location under a policy: on the server where it can do that.

        :raises StorageError: if the policy refuses the content, or the object is missing.
        """
        slot = self.get_policy(policy)
        ref = copy_inside(self, file, slot)
        if ref is None:
            with file.open() as stream:
                upload = Upload(stream, file.filename, file.content_type, file.extra or None)
                ref = self.store_upload(policy, upload)
        return StoredFile(self, ref)

    def file(self, ref: StoredObjectRef | Mapping[str, Any] | str) -> StoredFile:
        """A file for a ref that the application read from its database (a ref, its dict, or its JSON text).

        :raises InvalidRefError: if it is not a ref.
        """
        stored = StoredFile(self, ref)
        _ = stored.ref
        return stored

    def put_bytes(
        self,
        *,
        storage_key: str,
        model_name: str,
        entity_id: object,
        field_name: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store bytes where granite-storage 0.1.0 did: ``<prefix>/<model_name>/<entity_id>-<8 hex><suffix>``.

        :raises StorageError: as :meth:`store`.
        """
        upload = Upload(content, original_filename, content_type, extra)
        policy = self.get_policy(storage_key)
        backend = self.get_backend_for_policy(policy)
        return put_upload(backend, policy, upload, partial(location_of_0_1, policy, model_name, entity_id))

    def put_stream(
        self,
        *,
        storage_key: str,
        model_name: str,
        entity_id: object,
        field_name: str,
        stream: BinaryIO,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store what a binary stream still gives where granite-storage 0.1.0 did.

        :raises StorageError: as :meth:`store`.
        """
        upload = Upload(stream, original_filename, content_type, extra)
        policy = self.get_policy(storage_key)
        backend = self.get_backend_for_policy(policy)
        return put_upload(backend, policy, upload, partial(location_of_0_1, policy, model_name, entity_id))

    # Reading and deleting

    def get(self, ref: StoredObjectRef) -> bytes:
        """An object's whole content.

        :raises ObjectNotFoundError: if it is missing.
        """
        return self.backend_of(ref).get(ref)

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A binary stream over an object, a context manager.

        :raises ObjectNotFoundError: if it is missing.
        """
        return self.backend_of(ref).open(ref)

    def open_seekable(self, ref: StoredObjectRef) -> BinaryIO:
        """As :meth:`open`, but always seekable: a backend that cannot is read into a temporary file first."""
        stream = self.open(ref)
        if has_ability(self.backend_of(ref), Ability.RANGED_READ):
            return stream
        with stream:
            spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(8 * 2**20))  # noqa: SIM115 - the caller closes it
            shutil.copyfileobj(stream, spool)
        spool.seek(0)
        return spool

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete an object; nothing happens if it is gone already. No row is asked whether it still names it."""
        self.backend_of(ref).delete(ref)

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether an object is there."""
        return self.backend_of(ref).exists(ref)

    # The same, awaited: in threads, with the event loop free

    async def astore(self, policy: str, source: Any) -> StoredFile:
        """:meth:`store`, awaited. If the task is cancelled meanwhile, what was stored is deleted."""
        return await self.pool.run(partial(self.store, policy, source), undo=lambda stored: self.delete(stored.ref))

    async def aput_bytes(self, **arguments: Any) -> StoredObjectRef:
        """:meth:`put_bytes`, awaited."""
        return await self.pool.run(partial(self.put_bytes, **arguments), undo=self.delete)

    async def aput_stream(self, **arguments: Any) -> StoredObjectRef:
        """:meth:`put_stream`, awaited."""
        return await self.pool.run(partial(self.put_stream, **arguments), undo=self.delete)

    async def aget(self, ref: StoredObjectRef) -> bytes:
        """:meth:`get`, awaited."""
        return await self.pool.run(partial(self.get, ref))

    async def aopen(self, ref: StoredObjectRef) -> AsyncReader:
        """:meth:`open`, awaited: ``async with await manager.aopen(ref) as stream: await stream.read()``."""
        stream = await self.pool.run(partial(self.open, ref), undo=lambda opened: opened.close())
        return AsyncReader(self.pool, stream)

    async def adelete(self, ref: StoredObjectRef) -> None:
        """:meth:`delete`, awaited."""
        await self.pool.run(partial(self.delete, ref))

    async def aexists(self, ref: StoredObjectRef) -> bool:
        """:meth:`exists`, awaited."""
        return await self.pool.run(partial(self.exists, ref))

    # Models, and tests

    def attach(self, *models: type[Any] | MetaData, engine: Engine | AsyncEngine | None = None) -> None:
        """Serve the file fields of declarative bases or MetaDatas; once, at start-up.

        :param models: declarative bases, mapped classes or ``MetaData`` objects.
        :param engine: the engine of their database; needed only where sessions cannot tell it.
        :raises ConfigurationError: every mistake in policies, backends, prefixes and file fields at once.
        """
        from granite_storage.orm.attach import attach  # a deferred door upward

        attach(self, models, engine)

    @contextmanager
    def override(
        self,
        backends: Mapping[str, StorageBackend | str] | None = None,
        policies: Mapping[str, StoragePolicy] | None = None,
    ) -> Iterator[StorageManager]:
        """For tests: replace backends or policies for the length of a ``with`` block, for the whole process.

        :param backends: those to replace, by name; by default every backend gets a fresh one in memory.
        :param policies: those to replace, by name.

        >>> manager = StorageManager({"disk": "memory://"}, {"notes": StoragePolicy("notes", "disk")})
        >>> with manager.override():
        ...     stored = manager.store("notes", b"only in the test")
        >>> manager.exists(stored.ref)
        False
        """
        if backends is None and policies is None:
            backends = {name: MemoryStorageBackend() for name in self._backends}
        before = self._backends, self._policies
        self._backends = {**self._backends, **_made(backends or {})}
        self._policies = {**self._policies, **(policies or {})}
        try:
            yield self
        finally:
            self._backends, self._policies = before


def _made(backends: Mapping[str, StorageBackend | str]) -> dict[str, StorageBackend]:
    return {name: backend_from_url(given) if isinstance(given, str) else given for name, given in backends.items()}
