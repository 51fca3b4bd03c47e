"""The storage manager: policies and backends together. It works without any ORM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from granite_storage.aio import AsyncReader, WorkerPool
from granite_storage.backends.base import Ability, StorageBackend, has_ability, in_folder
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url
from granite_storage.copying import copy_file
from granite_storage.declared import IterReferences
from granite_storage.deletion import delete_object
from granite_storage.events import EventHook, Events
from granite_storage.exceptions import ConfigurationError, StorageError, UnassignableError
from granite_storage.files import StoredFile
from granite_storage.intake.coerce import coerce
from granite_storage.intake.spool import spooled
from granite_storage.intake.upload import Upload
from granite_storage.locations import new_location
from granite_storage.object_urls import url_of
from granite_storage.observing import Observer, StorageChange, tell
from granite_storage.ownership import Ownership
from granite_storage.policies import StoragePolicy
from granite_storage.presigned import PresignedUpload
from granite_storage.refs import StoredObjectRef
from granite_storage.resolve import Stores, resolve_backend_key
from granite_storage.storing import location_of_0_1, put_upload
from granite_storage.tokens import KeyRing, SecretKeys

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from granite_storage.intake.accept import Accepted
    from granite_storage.maintenance.sweep_report import SweepReport

__all__ = ["StorageManager"]


class StorageManager:
    """Policies and backends by name.

    :param backends: name -> backend, or its URL, such as ``"s3://my-bucket/production?region=eu-west-1"``.
    :param policies: name -> policy.
    :param max_workers: how many threads the manager uses at most for uploads that are stored side by side and for
        its async methods.
    :param grace: how old an upload that no committed row names must be before a sweep deletes it. A transaction whose
        oldest upload is older than 0.8 of it can no longer commit.
    :param owner: for whom the manager acts, such as ``"shop-prod"``. It is marked at the prefixes; a manager with
        another owner (a staging system on a copy of the database) may read, but neither store nor delete there.
    :param secret_keys: what signs the tokens of direct uploads: a str of at least 32 bytes; several, the newest first,
        which signs, while all verify; or a callable that gives them.
    :raises ConfigurationError: if a URL makes no backend, or an option is none.

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
        grace: timedelta = timedelta(hours=24),
        owner: str | None = None,
        secret_keys: SecretKeys | None = None,
    ) -> None:
        if max_workers < 1:
            raise ConfigurationError(f"max_workers is a number of threads, 1 or more, not {max_workers}")
        if not isinstance(grace, timedelta) or grace <= timedelta(0):  # type: ignore[redundant-expr]
            raise ConfigurationError(f"grace is a timedelta above 0, such as timedelta(hours=24), not {grace!r}")
        self.grace = grace
        self.ownership = Ownership(owner)
        self.keys = KeyRing(secret_keys)
        self._backends = _made(backends)
        self._stores = Stores(self._backends)
        self._policies = dict(policies)
        self.pool = WorkerPool(max_workers)
        self.attached: dict[MetaData, Engine | None] = {}
        """The MetaDatas it serves, and the engine of each where :meth:`attach` was told."""
        self.references: list[IterReferences] = []
        """What :meth:`add_references` was told of."""
        self.events = Events()
        self.observers: list[Observer] = []
        """Told what transactions and this manager did to objects (:mod:`granite_storage.observing`)."""

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

    def retained(self) -> dict[str, float]:
        """The policies that keep freed objects, and for how many seconds."""
        keeping = {name: policy.retain.total_seconds() for name, policy in self._policies.items()}
        return {name: seconds for name, seconds in keeping.items() if seconds}

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

        Where two names lead to one store, as after a backend was renamed, it is the first of them.

        :raises StorageError: if the ref's backend is not known.
        """
        key = resolve_backend_key(ref.backend, ref.storage_key, self._backends, self._policies)
        return self._stores.name(key), ref.location

    def identities(self, identity: tuple[str, str]) -> list[tuple[str, str]]:
        """All identities of the object that has this one, itself first: several where backends lie inside of others."""
        return self._stores.identities(*identity)

    def same_store(self, one: str, other: str) -> bool:
        """Whether two names of backends lead to one store."""
        return self._stores.name(one) == self._stores.name(other)

    def one_name_each(self, names: Iterable[str]) -> list[str]:
        """The stores that names of backends lead to, each by its first name."""
        return list(dict.fromkeys(map(self._stores.name, names)))

    def backend_of(self, ref: StoredObjectRef) -> StorageBackend:
        """The backend that holds a ref's object.

        :raises StorageError: "Unknown backend: ...".
        """
        return self._backends[self.identity(ref)[0]]

    def check_owner(self, ref: StoredObjectRef) -> None:
        """Refuse to delete what is another owner's.

        :raises OwnershipError: naming both owners and the remedy.
        """
        key = self.identity(ref)[0]
        for policy in self._policies.values():
            if self._stores.name(policy.backend_key) == key and in_folder(ref.location, policy.prefix):
                self.ownership.check(self._backends[key], policy)

    def _own(self, policy: str) -> tuple[StoragePolicy, StorageBackend]:
        """A policy that this manager may store under, and its backend."""
        slot = self.get_policy(policy)
        backend = self.get_backend_for_policy(slot)
        self.ownership.check(backend, slot)
        return slot, backend

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
        return StoredFile(self, self._told(self.store_upload(policy, upload)))

    def store_upload(self, policy: str, upload: Upload) -> StoredObjectRef:
        """:meth:`store` a staged upload for a transaction, which tells the observers itself; gives the ref."""
        slot, backend = self._own(policy)
        return self._put(backend, slot, upload, lambda accepted: new_location(slot.prefix, accepted.suffix))

    def copy(self, policy: str, file: StoredFile) -> StoredFile:
        """Copy a stored file to a fresh location under a policy: on the server where it can do that.

        :raises StorageError: if the policy refuses the content, or the object is missing.
        """
        return StoredFile(self, self._told(self.copy_object(policy, file)))

    def copy_object(self, policy: str, file: StoredFile) -> StoredObjectRef:
        """:meth:`copy` for a transaction, which tells the observers itself; gives the ref."""
        slot, backend = self._own(policy)
        return self.events.storing(slot, partial(copy_file, self, file, slot, backend))

    def _put(
        self, backend: StorageBackend, policy: StoragePolicy, upload: Upload, locate: Callable[[Accepted], str]
    ) -> StoredObjectRef:
        return self.events.storing(policy, partial(put_upload, backend, policy, upload, locate))

    def _told(self, ref: StoredObjectRef) -> StoredObjectRef:
        if self.observers:
            tell(self.observers, StorageChange(stored=(ref,)))
        return ref

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
        policy, backend = self._own(storage_key)
        locate = partial(location_of_0_1, policy, model_name, entity_id)
        return self._told(self._put(backend, policy, upload, locate))

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
        policy, backend = self._own(storage_key)
        locate = partial(location_of_0_1, policy, model_name, entity_id)
        return self._told(self._put(backend, policy, upload, locate))

    # Direct uploads: the browser sends the file to the store, and the application claims it

    def presign_upload(
        self,
        policy: str,
        *,
        method: Literal["post", "put"] = "post",
        filename: str | None = None,
        content_type: str | None = None,
        size: int | None = None,
        expires: timedelta | None = None,
        subject: str | None = None,
    ) -> PresignedUpload:
        """A request by which a browser uploads one file straight to the store, and the token to :meth:`claim` it with.

        The store refuses another key, another type, a size outside of the policy's, and what comes too late.

        :param policy: the policy's name; it must have a ``max_size``.
        :param method: ``"post"``, a form; or ``"put"``, which needs ``size`` and ``content_type``.
        :param filename: what the ref will record.
        :param content_type: the one that the browser must tell. By default the policy's pattern, if it has only one; or
            ``application/octet-stream`` if it takes every type.
        :param size: bytes, if they are known: no other size is taken then.
        :param expires: until when the upload may begin and be claimed, from now on; under half of the grace period. An
            hour by default, or a quarter of the grace period if that is shorter.
        :param subject: for whom it is, such as a user's or a session's id: :meth:`claim` must say the same.
        :raises ConfigurationError: if the policy has no ``max_size``, the manager no ``secret_keys``, or ``expires`` is
            too long.
        :raises NotSupportedError: if the backend takes no direct uploads.
        :raises InvalidUploadError: if the policy does not take this type or size.
        """
        from granite_storage.direct_upload import presign  # few programs need it

        slot, backend = self._own(policy)
        return presign(
            self,
            slot,
            backend,
            method=method,
            filename=filename,
            content_type=content_type,
            size=size,
            expires=expires,
            subject=subject,
        )

    def claim(
        self,
        token: str,
        *,
        subject: str | None = None,
        policy: str | None = None,
        filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredFile:
        """Take over what was uploaded with a token, as :meth:`store` would store it; once.

        Assign the file to a field. If the policy refuses the upload, it is deleted; the browser may try again with the
        same request. If anything else fails, the claim may be tried again.

        :param token: from :meth:`presign_upload`, as the browser gave it back.
        :param subject: what :meth:`presign_upload` was given.
        :param policy: the policy that the token must be for; give it where a token of another would do harm.
        :param filename: what the ref records, if it was not known before.
        :param extra: further JSON members for the ref.
        :raises TokenError: if the token is forged, or for another policy or subject.
        :raises TokenExpiredError: if it is too old.
        :raises TokenUsedError: if it was claimed already.
        :raises ObjectNotFoundError: if nothing was uploaded yet.
        :raises InvalidUploadError: if the policy refuses the upload.
        :raises BackendError: if the store fails, or the browser uploads anew at this moment.
        """
        from granite_storage.claiming import claim, ticket_for

        ticket = ticket_for(self, token, subject, policy)
        slot, backend = self._own(ticket.policy)
        take = partial(claim, slot, backend, ticket, filename=filename, extra=extra)
        return StoredFile(self, self._told(self.events.storing(slot, take)))

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
            return spooled(stream)

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete an object; nothing happens if it is gone already. No row is asked whether it still names it.

        :raises OwnershipError: if it is another owner's.
        """
        delete_object(self, ref)

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether an object is there."""
        return self.backend_of(ref).exists(ref)

    def url(
        self,
        ref: StoredObjectRef,
        *,
        expires: timedelta | float | None = None,
        download: bool = False,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL that gives an object to whoever has it; nobody asks whether the object is there.

        It is presigned by the backend. With no argument, and if the object's policy has a ``public_url``, it is the
        object's URL below that instead, which does not expire. Types that could harm a browser (all but
        :data:`~granite_storage.serving.INLINE_TYPES`) are served as attachments, whatever the arguments say.

        :param expires: for how long a presigned URL is valid, a timedelta or seconds; an hour by default. S3 signs for
            7 days at most; with temporary credentials (a role's) it ends when they do.
        :param download: make the browser save the file, never show it.
        :param filename: under which name it is saved; the ref's by default.
        :param content_type: what it is served as, instead of the type it was accepted as. It is an attachment unless
            both are harmless.
        :raises NotSupportedError: if the backend is not able to make URLs.
        :raises InvalidURLError: if ``expires`` or ``content_type`` is out of its limits, naming them.
        :raises ConfigurationError: if the backend has no credentials to sign with.
        """
        return url_of(self, ref, expires=expires, download=download, filename=filename, content_type=content_type)

    # The same, awaited: in threads, with the event loop free

    async def astore(self, policy: str, source: Any) -> StoredFile:
        """:meth:`store`, awaited. If the task is cancelled meanwhile, what was stored is deleted."""
        return await self.pool.run(partial(self.store, policy, source), undo=lambda stored: self.delete(stored.ref))

    async def apresign_upload(self, policy: str, **options: Any) -> PresignedUpload:
        """:meth:`presign_upload`, awaited: it may have to look for credentials, or whose the prefix is."""
        return await self.pool.run(partial(self.presign_upload, policy, **options))

    async def aclaim(self, token: str, **options: Any) -> StoredFile:
        """:meth:`claim`, awaited. If the task is cancelled meanwhile, what was claimed is deleted."""
        return await self.pool.run(partial(self.claim, token, **options), undo=lambda stored: self.delete(stored.ref))

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

    async def aurl(self, ref: StoredObjectRef, **options: Any) -> str:
        """:meth:`url`, awaited: temporary credentials may have to be fetched anew."""
        return await self.pool.run(partial(self.url, ref, **options))

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

    def add_references(self, iter_refs: IterReferences) -> None:
        """Declare what names objects and is in no file column of an attached model.

        A sweep, a garbage collection and a move delete nothing that it names; the end of a transaction asks rows only,
        and deletes what the transaction freed. Objects of :meth:`put_bytes` and
        :meth:`put_stream`, which are under no location of ours, are collected only once their references are declared.

        :param iter_refs: a callable that gives every such ref (or StoredFile, or None) as it is committed now. It is
            called anew each time, from the thread that sweeps; what it raises stops the deletion.

        >>> manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
        >>> manager.add_references(lambda: [manager.store("documents", b"kept")])
        """
        if not callable(iter_refs):
            raise ConfigurationError(f"add_references() takes a callable that gives refs, not {iter_refs!r}")
        self.references.append(iter_refs)

    def on_event(self, hook: EventHook) -> EventHook:
        """Call ``hook`` with each :class:`~granite_storage.events.StorageEvent`; also a decorator.

        From the thread that did it, several at once perhaps; what it raises is logged.
        """
        self.events.hooks.append(hook)
        return hook

    def sweep(
        self,
        engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
        *,
        grace: timedelta | None = None,
        since: datetime | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> SweepReport:
        """Finish what the outbox and recent uploads left over. Run it every few minutes to hours; any time is safe.

        Freed objects whose deletion failed, was cut off or had to wait go, and uploads whose transaction never
        committed, found by listing only the days since the last sweep. Its cost follows the churn, not the store.

        :param engine: the primary database; several for a schema per tenant, all of them at once. By default the
            engines that :meth:`attach` was given.
        :param grace: another grace period for this sweep. A shorter one than the manager's may take the uploads of
            transactions that are still open; for tests.
        :param since: list uploads from this instant (UTC) on, instead of where the last sweep stopped.
        :param dry_run: change nothing, and report what would be done.
        :param force: the explicit word that deletion by listing needs if more than 10 % of over 1 000 recent uploads,
            or all of them while no row names anything, would go.
        :returns: what was done, and what was refused and why.
        :raises ReplicaError: if a database is a replica: PostgreSQL in recovery, MariaDB or MySQL with read_only on.
        :raises ConfigurationError: if nobody can tell which databases to ask, a table of ours is missing, or ``since``
            is not past.
        """
        from granite_storage.maintenance.sweep import sweep  # a deferred door upward

        return sweep(self, engine, grace=grace, since=since, dry_run=dry_run, force=force)

    async def asweep(
        self, engine: Engine | AsyncEngine | Sequence[Engine] | None = None, **options: Any
    ) -> SweepReport:
        """:meth:`sweep`, awaited, with the event loop free; engines may be asynchronous."""
        from granite_storage.maintenance.awaited import run_awaited  # a deferred door upward

        return await run_awaited(self, engine, partial(self.sweep, engine, **options))

    def take_ownership(self, engine: Engine | Sequence[Engine] | None = None, *, new_database_id: bool = False) -> None:
        """Make this manager's owner and these databases the only ones that are marked at the policies' prefixes.

        Once, by hand, when an owner was renamed, a database was made anew, or the store of another was taken over for
        good; never while anybody else still names objects there.

        :param engine: as :meth:`sweep` takes it.
        :param new_database_id: give the databases new ids first: for a copy that is to go its own way.
        """
        from granite_storage.maintenance.places import take_ownership

        take_ownership(self, engine, new_database_id=new_database_id)

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
        self._stores = Stores(self._backends)
        try:
            yield self
        finally:
            kept = {id(backend) for backend in before[0].values()}
            self.ownership.forget(backend for backend in self._backends.values() if id(backend) not in kept)
            self._backends, self._policies = before
            self._stores = Stores(self._backends)


def _made(backends: Mapping[str, StorageBackend | str]) -> dict[str, StorageBackend]:
    return {name: backend_from_url(given) if isinstance(given, str) else given for name, given in backends.items()}
