"""Verification: is every file there, is it whole, and what is nobody's?

::

    report = StorageVerifier(manager, engine=engine).verify()                  # looks, and changes nothing
    report = StorageVerifier(manager, engine=engine).verify(deep=True)         # reads every object, too
    report = StorageVerifier(manager, engine=engine).verify(repair=True)       # does what is safe

It looks both ways: at rows whose object is missing, of another size or of another checksum, or another row's, too; and
at objects that nothing names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from granite_storage.maintenance.verify.report import Finding, FindingKind, VerifyReport, VerifyStatus

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sqlalchemy import Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from granite_storage.maintenance.verify.parallel import VerifyPart
    from granite_storage.maintenance.verify.run import VerifyRun
    from granite_storage.manager import StorageManager

__all__ = ["Finding", "FindingKind", "StorageVerifier", "VerifyReport", "VerifyStatus"]

_log = logging.getLogger("granite_storage")


class StorageVerifier:
    """Compares all rows with all objects.

    :param manager: whose policies' prefixes are looked through, former ones included.
    :param models: models besides those that the manager is attached to: a declarative base, a MetaData, or several,
        each with every file column it has.
    :param engine: the primary database; several for a schema per tenant, all of them at once; may be asynchronous with
        :meth:`averify`. By default the engines that :meth:`~granite_storage.StorageManager.attach` was given.
    :param grace: what nothing names and is younger is no orphan; the manager's grace period by default. With a shorter
        one a repair may lose files whose transaction is still open.
    :param found: called with each :class:`Finding`, as it is found, from the thread that verifies.
    :param progress: called now and then with the report as it is then, from the same thread.
    :raises ConfigurationError: if ``models`` are none.

    >>> from sqlalchemy import Integer, create_engine
    >>> from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
    >>> from sqlalchemy.pool import StaticPool
    >>> from granite_storage import FileColumn, StorageManager, StoragePolicy
    >>> class Base(DeclarativeBase): ...
    >>> class Document(Base):
    ...     __tablename__ = "document"
    ...     id = mapped_column(Integer, primary_key=True)
    ...     report = FileColumn("documents")
    >>> manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
    >>> manager.attach(Base)
    >>> engine = create_engine("sqlite://", poolclass=StaticPool)
    >>> Base.metadata.create_all(engine)
    >>> with Session(engine) as session:
    ...     session.add_all(Document(report=content) for content in (b"one", b"two"))
    ...     session.commit()
    ...     manager.delete(session.get_one(Document, 2).report.ref)     # nobody does this
    >>> report = StorageVerifier(manager, engine=engine).verify()
    >>> print(report)
    verified 2 rows and 1 object: 1 missing
    >>> report.findings[0].table, report.findings[0].column, report.findings[0].key, report.exit_status
    ('document', 'report', (2,), 1)
    >>> engine.dispose()
    """

    def __init__(
        self,
        manager: StorageManager,
        models: type[Any] | MetaData | Sequence[type[Any] | MetaData] | None = None,
        *,
        engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
        grace: timedelta | None = None,
        found: Callable[[Finding], object] = lambda finding: None,
        progress: Callable[[VerifyReport], object] = lambda report: None,
    ) -> None:
        from granite_storage.maintenance.places import metadatas_of

        self.manager = manager
        self._engine = engine
        self._grace = manager.grace if grace is None else grace
        self._found, self._progress = found, progress
        self._metadatas = metadatas_of(models)

    def verify(
        self,
        *,
        storage_key: str | None = None,
        deep: bool = False,
        repair: bool = False,
        force: bool = False,
        executor: Executor | None = None,
        make: Callable[[], StorageVerifier] | None = None,
        parts: int = 32,
    ) -> VerifyReport:
        """Verify.

        :param storage_key: the policy whose prefixes are looked through, and nothing else; by default all, what rows
            name elsewhere, and the outboxes. What names its objects is looked for everywhere.
        :param deep: read every object and compare its checksum with its row's.
        :param repair: hand orphans to the outbox, from where the next sweep deletes them, and remove rows of the outbox
            that are not true. The rest needs a person (:attr:`Finding.remedy`).
        :param force: the explicit word that ``repair`` needs if more than 10 % of over 1 000 objects, or all of them
            while nothing names any, are orphans.
        :param executor: work in parts on its threads, processes or machines, such as Dask's
            ``client.get_executor()``; what has to do with orphans is gone through again for ``repair``. Each part gives
            its counts and its first 100 findings, which are all that ``found=`` is called with.
        :param make: a function of a module that can be imported there, which gives a verifier like this one; needed
            unless ``executor`` is a ``ThreadPoolExecutor`` and no engine is asynchronous.
        :param parts: into how many ranges the locations below each prefix are cut.
        :returns: what was found, and what could not be looked at and why.
        :raises ReplicaError: if a database is a replica: PostgreSQL in recovery, MariaDB or MySQL with read_only on.
        :raises ConfigurationError: if nobody can tell which databases to ask, or ``executor`` needs ``make``.
        :raises StorageError: if there is no such policy, or a declared reference is none.
        """
        from granite_storage.maintenance.parallel import check_maker
        from granite_storage.maintenance.verify.parallel import VerifyInParts

        manager, in_parts = self.manager, None
        if repair and self._grace < manager.grace:
            _log.warning(
                "a repair with a grace period of %s, shorter than the manager's %s: uploads of transactions that are "
                "still open may be handed to the outbox",
                self._grace,
                manager.grace,
            )
        chosen = [*manager.policies.values()] if storage_key is None else [manager.get_policy(storage_key)]
        run = self._run(deep=deep, repair=repair, force=force, found=self._found, progress=self._progress)
        if executor is not None:
            check_maker(executor, make, "verifier", run.sites)
            in_parts = VerifyInParts(make or (lambda: self), executor, parts)
        return run.verify(chosen, everything=storage_key is None, in_parts=in_parts)

    def verify_part(self, part: VerifyPart, *, deep: bool, repair: bool) -> VerifyReport:
        """What :meth:`verify` has an executor do: one range of locations; the caller has looked at the brake."""
        from granite_storage.maintenance.parallel import check_stopped

        return self._run(deep=deep, repair=repair, force=True, progress=check_stopped).verify_part(part)

    async def averify(self, **options: Any) -> VerifyReport:
        """:meth:`verify`, awaited, with the event loop free.

        With an asynchronous engine objects are read side by side; with another one after the other.
        """
        from granite_storage.maintenance.awaited import run_awaited

        return await run_awaited(self.manager, self._engine, partial(self.verify, **options))

    def _run(
        self,
        *,
        deep: bool,
        repair: bool,
        force: bool,
        progress: Callable[[VerifyReport], object],
        found: Callable[[Finding], object] = lambda finding: None,
    ) -> VerifyRun:
        from granite_storage.maintenance.places import sites_of
        from granite_storage.maintenance.verify.run import VerifyRun

        return VerifyRun(
            self.manager,
            sites_of(self.manager, self._engine, self._metadatas),
            grace=self._grace,
            deep=deep,
            repair=repair,
            force=force,
            progress=progress,
            found=found,
        )
