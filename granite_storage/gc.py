"""Garbage collection: the whole store against the whole database, for what neither commit nor sweep could know.

::

    report = StorageGarbageCollector(manager, Base, engine=engine).collect()           # a dry run
    report = StorageGarbageCollector(manager, Base, engine=engine).collect(dry_run=False)

A sweep is what runs every few minutes, and costs what the churn costs. This is the backstop, for every month or after a
restore: it costs what the store costs, and finds whatever nobody names, for whatever reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from granite_storage.declared import IterReferences
from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.garbage.report import GarbageReport
from granite_storage.maintenance.unreadable import UnreadableRef

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sqlalchemy import Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from granite_storage.maintenance.garbage.collect import GarbageRun
    from granite_storage.maintenance.ranges import LocationRange
    from granite_storage.manager import StorageManager

__all__ = ["GarbageReport", "StorageGarbageCollector", "UnreadableRef"]

_log = logging.getLogger("granite_storage")


class StorageGarbageCollector:
    """Finds objects that nobody names, and deletes those that are older than the grace period.

    What names objects are all file columns of all MetaDatas that ``manager`` was attached to, what
    :meth:`~granite_storage.StorageManager.add_references` declared, and what is given here.

    :param manager: whose policies' prefixes are looked through, former ones included; nothing else is ever listed.
    :param references: models (a declarative base, a MetaData, or several), each with every file column it has; or, as
        in 0.1.0, a callable that gives refs (or None), all there are.
    :param engine: the primary database; several for a schema per tenant, all of them at once; may be asynchronous with
        :meth:`acollect`. By default the engines that :meth:`~granite_storage.StorageManager.attach` was given.
    :param grace: how old an orphan must be to be deleted; the manager's grace period by default. With a shorter one,
        files may be lost whose transaction is still open.
    :param progress: called now and then with the report as it is then, from the thread that collects.
    :raises ConfigurationError: if nobody can tell what names objects.

    >>> from granite_storage import StorageManager, StoragePolicy
    >>> manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
    >>> kept, orphan = manager.store("documents", b"kept"), manager.store("documents", b"orphan")
    >>> print(StorageGarbageCollector(manager, lambda: [kept.ref]).collect())
    scanned 2 objects: 1 referenced, 1 orphaned (6 bytes; 1 younger than the grace period); would delete 0
    """

    def __init__(
        self,
        manager: StorageManager,
        references: IterReferences | type[Any] | MetaData | Sequence[type[Any] | MetaData] | None = None,
        *,
        engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
        grace: timedelta | None = None,
        progress: Callable[[GarbageReport], object] = lambda report: None,
    ) -> None:
        from granite_storage.maintenance.places import metadata_of

        self.manager = manager
        self._engine = engine
        self._grace = manager.grace if grace is None else grace
        self._progress = progress
        self._declared: list[IterReferences] = []
        self._metadatas: list[MetaData] = []
        several: Iterable[Any] = references if isinstance(references, (list, tuple)) else [references]
        for one in several:
            metadata = metadata_of(one)
            if metadata is not None:
                self._metadatas.append(metadata)
            elif callable(one):
                self._declared.append(cast("IterReferences", one))
            elif one is not None:
                raise ConfigurationError(
                    f"references are models (a base or a MetaData) or a callable that gives refs, not {one!r}"
                )
        if not (self._metadatas or self._declared or manager.attached or manager.references):
            raise ConfigurationError(
                "nobody can tell which objects are named, so all would seem garbage; give the models: "
                "StorageGarbageCollector(manager, Base, engine=engine), or manager.attach(Base, engine=engine) first"
            )

    def collect(
        self,
        *,
        storage_key: str | None = None,
        dry_run: bool = True,
        force: bool = False,
        executor: Executor | None = None,
        make: Callable[[], StorageGarbageCollector] | None = None,
        parts: int = 32,
    ) -> GarbageReport:
        """Collect garbage; without ``dry_run=False`` only tell what would be done.

        :param storage_key: the policy whose objects are looked at; all by default. What names them is looked for
            everywhere.
        :param force: the explicit word that deletion needs if more than 10 % of over 1 000 objects, or all of them
            while nothing names any, would go.
        :param executor: work in parts on its threads, processes or machines, such as Dask's
            ``client.get_executor()``. All are looked at first; then, if the brake lets go, those with orphans again.
        :param make: a function of a module that can be imported there, which gives a collector like this one; needed
            unless ``executor`` is a ``ThreadPoolExecutor`` and no engine is asynchronous.
        :param parts: into how many ranges the locations below each prefix are cut.
        :returns: what was found and done, and what was refused and why.
        :raises ReplicaError: if a database is a replica: PostgreSQL in recovery, MariaDB or MySQL with read_only on.
        :raises ConfigurationError: if nobody can tell which databases to ask, or ``executor`` needs ``make``.
        :raises StorageError: if there is no such policy, the store cannot be listed, or a declared reference is none.
        """
        from granite_storage.maintenance.garbage.parallel import CollectInParts
        from granite_storage.maintenance.parallel import check_maker

        chosen = self.manager.policies.values() if storage_key is None else [self.manager.get_policy(storage_key)]
        run = self._run(dry_run, force, self._grace)
        if executor is None:
            return run.collect(chosen)
        check_maker(executor, make, "collector", run.sites)
        return run.collect(chosen, CollectInParts(make or (lambda: self), executor, parts))

    def collect_part(self, part: LocationRange, *, grace: timedelta, dry_run: bool) -> GarbageReport:
        """What :meth:`collect` has an executor do: one range of locations; the caller has looked at the brake."""
        return self._run(dry_run, True, grace, quiet=True).collect_part(part)

    async def acollect(self, **options: Any) -> GarbageReport:
        """:meth:`collect`, awaited, with the event loop free."""
        from granite_storage.maintenance.awaited import run_awaited

        return await run_awaited(self.manager, self._engine, partial(self.collect, **options))

    def _run(self, dry_run: bool, force: bool, grace: timedelta, *, quiet: bool = False) -> GarbageRun:
        from granite_storage.maintenance.garbage.collect import GarbageRun
        from granite_storage.maintenance.parallel import check_stopped
        from granite_storage.maintenance.places import sites_of

        if grace < self.manager.grace and not dry_run and not quiet:
            _log.warning(
                "a garbage collection with a grace period of %s, shorter than the manager's %s: uploads of "
                "transactions that are still open may be deleted",
                grace,
                self.manager.grace,
            )
        asked = self._metadatas or self.manager.attached
        return GarbageRun(
            self.manager,
            sites_of(self.manager, self._engine, self._metadatas) if asked else [],
            self._declared,
            grace=grace,
            dry_run=dry_run,
            force=force,
            progress=check_stopped if quiet else self._progress,
        )
