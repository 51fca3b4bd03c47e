"""Moving files from one policy or backend to another, while the application runs.

::

    report = StorageMover(manager, engine=engine).move("documents", to="archive", dry_run=True)
    report = StorageMover(manager, engine=engine).move("documents", to="archive", bytes_per_second=20 * 2**20)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.move.report import MoveFinding, MoveReport

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sqlalchemy import Column, Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from granite_storage.maintenance.move.parallel import MovePart
    from granite_storage.maintenance.move.run import MoveRun
    from granite_storage.manager import StorageManager

__all__ = ["MoveFinding", "MoveReport", "StorageMover"]


class StorageMover:
    """Moves the files that rows name, row by row, to where a policy has them.

    :param manager: it must be attached to the models whose files are moved.
    :param models: bases or MetaDatas, all of whose file fields are looked at, or mapped classes; one or several. By
        default all that the manager is attached to.
    :param engine: the primary database; several for a schema per tenant, all of them at once; may be asynchronous with
        :meth:`amove`. By default the engines that :meth:`~granite_storage.StorageManager.attach` was given.
    :param progress: called after each batch with the report as it is then, from the thread that moves.
    :raises ConfigurationError: if ``models`` are none that the manager is attached to.

    >>> from sqlalchemy import Integer, create_engine
    >>> from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
    >>> from sqlalchemy.pool import StaticPool
    >>> from granite_storage import FileColumn, StorageManager, StoragePolicy
    >>> class Base(DeclarativeBase): ...
    >>> class Document(Base):
    ...     __tablename__ = "document"
    ...     id = mapped_column(Integer, primary_key=True)
    ...     report = FileColumn("documents")
    >>> policies = {name: StoragePolicy(name, name) for name in ("documents", "archive")}
    >>> manager = StorageManager(dict.fromkeys(policies, "memory://"), policies)
    >>> engine = create_engine("sqlite://", poolclass=StaticPool)
    >>> manager.attach(Base, engine=engine)
    >>> Base.metadata.create_all(engine)
    >>> with Session(engine) as session:
    ...     session.add(Document(report=b"old"))
    ...     session.commit()
    >>> print(StorageMover(manager).move("documents", to="archive"))
    moved 1 file (3 bytes), deleted 1 old object
    >>> with Session(engine) as session:
    ...     moved = session.get(Document, 1).report
    >>> moved.backend, moved.read()
    ('archive', b'old')
    """

    def __init__(
        self,
        manager: StorageManager,
        models: type[Any] | MetaData | Sequence[type[Any] | MetaData] | None = None,
        *,
        engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
        progress: Callable[[MoveReport], object] = lambda report: None,
    ) -> None:
        self.manager = manager
        self._engine = engine
        self._progress = progress
        self._columns = None if models is None else _columns_of(manager, models)

    def move(
        self,
        storage_key: str,
        *,
        to: str | None = None,
        from_backend: str | None = None,
        dry_run: bool = False,
        limits: bool = True,
        reread: bool = False,
        bytes_per_second: float | None = None,
        objects_per_second: float | None = None,
        executor: Executor | None = None,
        make: Callable[[], StorageMover] | None = None,
        parts: int = 32,
    ) -> MoveReport:
        """Move all files that were stored under a policy.

        It may be stopped at any time, and run again: it finds what is left. Old objects go as any freed object does:
        right after the commit, or once their policy's ``retain`` time is over.

        :param storage_key: the policy that the files' refs name.
        :param to: the policy that they are to be of. By default they stay of theirs, and those that are at another
            backend than the policy's own go there.
        :param from_backend: only the files at this backend (the manager's name for it).
        :param dry_run: change nothing, and count what would be moved; validators are not asked.
        :param limits: what the target policy would not take (``max_size``, ``min_size``, ``content_types``, validators)
            is reported, and stays where it is; False moves it nevertheless.
        :param reread: read each copy back and compare its checksum, before its row names it. Of a copy that the store
            made by itself nothing but the size is compared otherwise.
        :param bytes_per_second: not more than so many, on average; a single object is copied as fast as it goes.
        :param objects_per_second: likewise.
        :param executor: work in parts on its threads, processes or machines, such as Dask's
            ``client.get_executor()``. Under a limit at most ``parts`` of them are at work at once, each with its share.
        :param make: a function of a module that can be imported there, which gives a mover like this one; needed
            unless ``executor`` is a ``ThreadPoolExecutor`` and no engine is asynchronous.
        :param parts: into how many ranges of primary keys the rows of each table are cut.
        :returns: what was moved, and what was not and why.
        :raises StorageError: if there is no such policy or backend, or the outbox is missing.
        :raises ConfigurationError: if there is nothing that could be moved, nobody can tell which databases to ask,
            none of the tables is there, or ``executor`` needs ``make``.
        :raises OwnershipError: if another owner's mark is at one of the prefixes.
        :raises ReplicaError: if a database is a replica: PostgreSQL in recovery, MariaDB or MySQL with read_only on.
        """
        from granite_storage.maintenance.move.parallel import MoveInParts
        from granite_storage.maintenance.parallel import check_maker

        options: dict[str, Any] = {
            "to": to,
            "from_backend": from_backend,
            "dry_run": dry_run,
            "limits": limits,
            "reread": reread,
        }
        run = self._run(storage_key, bytes_per_second, objects_per_second, progress=self._progress, **options)
        if executor is None:
            return run.move()
        check_maker(executor, make, "mover", run.sites)
        return run.move(MoveInParts(make or (lambda: self), executor, parts, (storage_key, options)))

    def move_part(
        self,
        part: MovePart,
        storage_key: str,
        *,
        bytes_per_second: float | None,
        objects_per_second: float | None,
        **options: Any,
    ) -> MoveReport:
        """What :meth:`move` has an executor do: a range of rows; the caller has looked at marks and replicas."""
        from granite_storage.maintenance.parallel import check_stopped

        options["progress"] = check_stopped
        return self._run(storage_key, bytes_per_second, objects_per_second, **options).move_part(part)

    async def amove(self, storage_key: str, **options: Any) -> MoveReport:
        """:meth:`move`, awaited, with the event loop free."""
        from granite_storage.maintenance.awaited import run_awaited

        return await run_awaited(self.manager, self._engine, partial(self.move, storage_key, **options))

    def _run(
        self,
        storage_key: str,
        bytes_per_second: float | None,
        objects_per_second: float | None,
        *,
        to: str | None,
        from_backend: str | None,
        progress: Callable[[MoveReport], object],
        **options: Any,
    ) -> MoveRun:
        from granite_storage.maintenance.move.pace import Pace
        from granite_storage.maintenance.move.run import MoveRun
        from granite_storage.maintenance.move.selection import Selection
        from granite_storage.maintenance.places import sites_of

        manager = self.manager
        source = manager.get_policy(storage_key)
        target = source if to is None else manager.get_policy(to)
        return MoveRun(
            manager,
            sites_of(manager, self._engine),
            Selection.of(manager, source, target, from_backend),
            target,
            columns=self._columns,
            pace=Pace(bytes_per_second, objects_per_second),
            progress=progress,
            **options,
        )


def _columns_of(manager: StorageManager, models: Any) -> set[Column[Any]]:
    """The columns of refs of models that a manager is attached to."""
    from sqlalchemy import MetaData, inspect
    from sqlalchemy.orm import Mapper

    from granite_storage.orm.references import ref_columns

    columns: set[Column[Any]] = set()
    several: Iterable[Any] = models if isinstance(models, (list, tuple)) else [models]
    for one in several:
        metadata = one if isinstance(one, MetaData) else getattr(one, "metadata", None)
        if not isinstance(metadata, MetaData) or metadata not in manager.attached:
            raise ConfigurationError(
                f"models are bases, MetaDatas or mapped classes that the manager is attached to, not {one!r}; "
                "call manager.attach(Base) first"
            )
        mapper = inspect(one, raiseerr=False)
        tables = mapper.tables if isinstance(mapper, Mapper) else metadata.tables.values()
        columns |= {column for column in ref_columns(metadata) if column.table in tables}
    return columns
