"""Garbage collection: a store of millions of objects against a table of as many refs.

The listing costs nothing: its objects are made before the clock runs. What is left is asking the database which of
them are named. Memory is measured by itself, with a listing that makes its objects one by one.
"""

from __future__ import annotations

import gc as memory
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import FileColumn, FileMapped, MemoryStorageBackend, StorageManager, StoragePolicy, StoredFile
from granite_storage.backends.base import ObjectInfo
from granite_storage.gc import StorageGarbageCollector

__all__ = ["Base", "collecting", "fill", "location", "run"]

_MIB = 2**20
_MODIFIED = datetime(2024, 1, 1, tzinfo=UTC)
_QUERY = "SELECT json_extract(report, '$.location') FROM document ORDER BY json_extract(report, '$.location')"


def run(settings: Settings) -> Iterator[Result]:
    """Two tables: time, and memory."""
    count = 200_000 if settings.quick else 5_000_000
    with TemporaryDirectory(dir=settings.directory) as folder:
        database = str(Path(folder) / "shop.db")
        fill(database, range(count), location)
        args = (database, count)
        contenders = (
            Contender("granite-storage", collecting, (*args, True), note="StorageGarbageCollector.collect()"),
            Contender("bare cursor", merging, args, goal=1.3, note="sqlite3's ordered cursor merged with a list"),
            Contender("0.1.0's way", a_set, args, note="a set of all refs, asked for each object"),
        )
        yield measure(Case(f"gc of {count:,} objects", contenders, count, "us/object", 1e6), settings.rounds)
        contenders = (
            Contender("granite-storage", collecting, (*args, False), note="objects made as they are listed"),
            Contender("0.1.0's way", a_set, (*args, False), note="likewise"),
        )
        title = f"gc of {count:,} objects, memory"
        case = Case(title, contenders, count, "us/object", 1e6, peak_goal=64 * _MIB, peak_below="0.1.0's way")
        yield measure(case, min(settings.rounds, 2))


def location(number: int) -> str:
    """Of an object by its number; in the order of numbers, half a million a month."""
    year, month = divmod(number // 500_000, 12)
    return f"docs/{2010 + year}/{1 + month:02}/01/{number:08x}-0000-7000-8000-000000000000.pdf"


def _ref(location: str, backend: str, size: int, number: int) -> str:
    members = {
        "storage_key": "documents",
        "backend": backend,
        "location": location,
        "size": size,
        "checksum": f"sha256:{number:064x}",
        "content_type": "application/pdf",
        "original_filename": f"report {number}.pdf",
    }
    return json.dumps(members)


def fill(
    database: str, numbers: Iterable[int], locate: Callable[[int], str], *, backend: str = "store", size: int = 1000
) -> None:
    """The table of the application, with a row for each of these objects, and its index."""
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        found = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_document__report__location'")
        (index,) = found.fetchone()
        connection.execute("DROP INDEX ix_document__report__location")
        refs = ((_ref(locate(number), backend, size, number),) for number in numbers)
        connection.executemany("INSERT INTO document (report) VALUES (?)", refs)
        connection.execute(index)
        connection.execute("ANALYZE")
        connection.commit()


class Base(DeclarativeBase):
    """The application's."""


class Document(Base):
    """A model with a file field."""

    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("documents")


class Listed(MemoryStorageBackend):
    """A store whose listing is given."""

    def __init__(self, objects: Any) -> None:
        super().__init__()
        self._listed = objects

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(self._listed()) if prefix == "docs" else iter(())


@contextmanager
def collecting(database: str, count: int, made_before: bool) -> Iterator[Round]:
    """A dry run."""
    engine = create_engine(f"sqlite:///{database}")
    made = [*_generated(count)] if made_before else None
    store = Listed((lambda: made) if made_before else (lambda: _generated(count)))
    manager = StorageManager({"store": store}, {"documents": StoragePolicy("documents", "store", key_prefix="docs")})
    manager.attach(Base, engine=engine)
    memory.freeze()

    def collect() -> None:
        report = StorageGarbageCollector(manager).collect()
        assert (report.scanned, report.referenced, report.orphaned) == (count, count, 0), report

    yield Round(collect)
    engine.dispose()


def _generated(count: int) -> Iterator[ObjectInfo]:
    """In order, without a list of them."""
    for number in range(count):
        yield ObjectInfo(location(number), 1000, _MODIFIED)


@contextmanager
def merging(database: str, count: int) -> Iterator[Round]:
    """The least that anybody could do: two ordered streams, side by side."""
    listed = [*_generated(count)]
    memory.freeze()

    def merge() -> None:
        orphans = 0
        with closing(sqlite3.connect(database)) as connection:
            names = (name for (name,) in connection.execute(_QUERY))
            name = next(names, None)
            for one in listed:
                location = one.location
                while name is not None and name < location:
                    name = next(names, None)
                if name != location:
                    orphans += 1
        assert orphans == 0

    yield Round(merge)


@contextmanager
def a_set(database: str, count: int, made_before: bool = True) -> Iterator[Round]:
    """All refs loaded as JSON, as 0.1.0's users gave them, and their locations in a set."""
    listed = [*_generated(count)] if made_before else None
    memory.freeze()

    def compare() -> None:
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT report FROM document")
            named: set[str] = set()
            while batch := list(islice(rows, 10_000)):
                named.update(json.loads(text)["location"] for (text,) in batch)
        objects = listed if listed is not None else _generated(count)
        assert sum(one.location not in named for one in objects) == 0

    yield Round(compare)
