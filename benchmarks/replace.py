"""Replacing files, on a backend in memory: what the outbox costs, and whether it costs more in a large table.

The outbox costs statements, and one more commit, which removes its rows again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import MetaData, create_engine, event, func, insert, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.databases import postgresql, sqlite
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import (
    FileColumn,
    FileMapped,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    metadata_options,
)
from granite_storage.locations import new_location

__all__ = ["run"]

_REPLACED = 100  # files a round, in one transaction
_BATCH = 10_000
_SMALL = 1_000  # rows


def run(settings: Settings) -> Iterator[Result]:
    """On SQLite and on PostgreSQL."""
    with sqlite(settings) as url:
        yield from _on("SQLite", url, settings)
    try:
        with postgresql() as url:
            yield from _on("PostgreSQL", url, settings)
    except ConnectionError as error:
        yield Result("replace on PostgreSQL", "", 0, (), skipped=str(error))


def _on(database: str, url: str, settings: Settings) -> Iterator[Result]:
    contenders = (
        Contender("granite-storage", replacing, (url, "with_outbox", _SMALL)),
        Contender(
            "outbox off", replacing, (url, "without_outbox", _SMALL), goal=1.25, note="metadata_options(outbox=None)"
        ),
    )
    yield _measured(f"replace {_REPLACED} files, on {database}", contenders, settings)
    large = 20_000 if settings.quick else 1_000_000
    contenders = (
        Contender(f"{large:,} rows", replacing, (url, "large", large)),
        Contender(f"{_SMALL:,} rows", replacing, (url, "small", _SMALL), goal=1.2),
    )
    yield _measured(f"replace {_REPLACED} files in a large table, on {database}", contenders, settings)


def _measured(title: str, contenders: tuple[Contender, ...], settings: Settings) -> Result:
    return measure(Case(title, contenders, _REPLACED, "us/file", 1e6), settings.rounds)


@contextmanager
def replacing(url: str, name: str, rows: int) -> Iterator[Round]:
    """The contender whose table is of that name; the table is made and filled if it is not there."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _as_web_applications_do)
    model, manager = _model(name)
    if not inspect(engine).has_table(name):
        model.metadata.create_all(engine)
        with engine.begin() as connection:
            for start in range(0, rows, _BATCH):
                batch = range(start, min(start + _BATCH, rows))
                connection.execute(insert(model.__table__), [{"id": number, "file": _ref(number)} for number in batch])
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    step = max(rows // _REPLACED, 1)
    chosen = [number * step for number in range(_REPLACED)]
    content = b"x" * 1024

    def replace() -> None:
        with Session(engine) as session:
            for document in session.scalars(select(model).where(model.id.in_(chosen))):
                document.file = content
            session.commit()

    def check() -> None:
        stored = list(manager.backends["memory"].iter_locations())
        assert len(stored) == _REPLACED, f"{len(stored)} objects are there"
        with Session(engine) as session:
            assert session.scalar(select(func.count()).select_from(model)) == rows

    yield Round(replace, after=check)
    engine.dispose()


def _as_web_applications_do(connection: Any, record: Any) -> None:
    """With its default journal SQLite waits for the disk several times a commit, which then is all that is measured."""
    connection.execute("PRAGMA journal_mode = WAL").close()
    connection.execute("PRAGMA synchronous = NORMAL").close()


def _model(name: str) -> tuple[Any, StorageManager]:
    options = metadata_options(outbox=None if name == "without_outbox" else f"{name}_outbox", registry=f"{name}_fields")

    class Base(DeclarativeBase):
        metadata = MetaData(info=options)

    class Document(Base):
        __tablename__ = name
        id: Mapped[int] = mapped_column(primary_key=True)
        file: FileMapped[StoredFile | None] = FileColumn("documents")

    manager = StorageManager(
        {"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory", key_prefix="docs")}
    )
    manager.attach(Base)
    return Document, manager


def _ref(number: int) -> StoredObjectRef:
    return StoredObjectRef(
        "documents",
        "memory",
        new_location("docs", ".pdf"),
        1_000_000 + number,
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "application/pdf",
        f"Annual report {number}.pdf",
        "2026-01-31T12:34:56.789012+00:00",
    )
