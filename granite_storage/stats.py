"""Statistics: how many files there are, how large, of what types and how old, per field and policy.

::

    print(storage_stats(manager, engine=engine))                         # a table
    json.dumps(storage_stats(manager, engine=engine).to_dict())

The database counts, one statement a file column; no object is looked at. A replica will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from granite_storage.maintenance.stats.report import Amount, FieldStats, StorageStats

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from granite_storage.manager import StorageManager

__all__ = ["Amount", "FieldStats", "StorageStats", "astorage_stats", "storage_stats"]


def storage_stats(
    manager: StorageManager,
    models: type[Any] | MetaData | Sequence[type[Any] | MetaData] | None = None,
    *,
    engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
) -> StorageStats:
    """Count the files that rows name.

    :param manager: whose models' file columns are counted.
    :param models: models besides those that the manager is attached to: a declarative base, a MetaData, or several.
    :param engine: the database; several are added up. By default the engines that
        :meth:`~granite_storage.StorageManager.attach` was given.
    :raises ConfigurationError: if nobody can tell which databases to ask, or ``models`` are none.

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
    >>> engine = create_engine("sqlite://", poolclass=StaticPool)
    >>> manager.attach(Base, engine=engine)
    >>> Base.metadata.create_all(engine)
    >>> with Session(engine) as session:
    ...     session.add_all(Document(report=content) for content in (bytes(2000), b"two"))
    ...     session.commit()
    >>> stats = storage_stats(manager)
    >>> stats.total, stats.policies
    (Amount(count=2, bytes=2003), {'documents': Amount(count=2, bytes=2003)})
    >>> print(str(stats).partition("\\n\\n")[0])
    field            policy     backend  files     size  largest
    document.report  documents  memory       2  2.0 KiB  2.0 KiB
    all                                      2  2.0 KiB  2.0 KiB
    >>> engine.dispose()
    """
    from granite_storage.maintenance.places import metadatas_of, sites_of
    from granite_storage.maintenance.stats.counting import count_files

    return count_files(sites_of(manager, engine, metadatas_of(models)))


async def astorage_stats(
    manager: StorageManager,
    models: type[Any] | MetaData | Sequence[type[Any] | MetaData] | None = None,
    *,
    engine: Engine | AsyncEngine | Sequence[Engine] | None = None,
) -> StorageStats:
    """:func:`storage_stats`, awaited, with the event loop free."""
    from granite_storage.maintenance.awaited import run_awaited

    return await run_awaited(manager, engine, partial(storage_stats, manager, models, engine=engine))
