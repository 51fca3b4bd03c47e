"""What would not fit into memory, on disk; and locations there, in the byte order that listings have."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby, islice
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from granite_storage.backends.base import ObjectInfo
from granite_storage.exceptions import StorageError

__all__ = ["LocationSpool", "Spool", "told_if_full"]

_BATCH = 10_000


@contextmanager
def told_if_full() -> Iterator[None]:
    """Say what to do where SQLite cannot write into the folder for temporary files.

    :raises StorageError: saying so; nothing was changed by what was to be spooled.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"a temporary file, of about 150 bytes an object, cannot be written ({error}): make room in the folder for "
            "temporary files, or give another by the variable SQLITE_TMPDIR"
        ) from error


class Spool:
    """A private SQLite database in the folder for temporary files, which goes when it is closed.

    SQLite compares text byte by byte, as listings are ordered. Whatever it holds, it takes a few megabytes of memory.

    :param table: the columns of its one table, ``spooled``.
    """

    def __init__(self, table: str) -> None:
        # "" is a database of its own on disk; what asks may run in another thread than what fills
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"CREATE TABLE spooled ({table})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows, in one transaction.

        :raises StorageError: if the folder is full.
        """
        with told_if_full():
            self._database.execute("BEGIN")
            self._database.executemany(statement, rows)
            self._database.execute("COMMIT")


class LocationSpool(Spool):
    """Objects, or their locations: in the order in which they came, or in byte order.

    >>> with LocationSpool() as spool:
    ...     spool.add(ObjectInfo(name, 1, datetime(2026, 1, 1)) for name in "ba")
    ...     [one.location for one in spool]
    ['a', 'b']
    """

    def __init__(self) -> None:
        super().__init__("location TEXT NOT NULL, size, modified, group_")
        self._count = 0
        self._ordered = False

    def __len__(self) -> int:
        return self._count

    def add(self, objects: Iterable[ObjectInfo], group: int = 0) -> None:
        """Take objects, in whatever order, some of them twice perhaps."""
        self._insert((one.location, one.size, one.modified.isoformat(), group) for one in objects)

    def add_named(self, named: Iterable[tuple[str, str | None]]) -> None:
        """Take what has no size and no time: what somebody names, location and backend."""
        self._insert((location, None, None, backend or "") for location, backend in named)

    def __iter__(self) -> Iterator[ObjectInfo]:
        """All, in the byte order of locations, each once."""
        self._order()
        # of one that came twice the later one
        rows = self._database.execute(
            "SELECT location, size, max(modified) FROM spooled GROUP BY location ORDER BY location"
        )
        for location, size, modified in rows:
            yield ObjectInfo(location, size, datetime.fromisoformat(modified))

    def batches(self, size: int) -> Iterator[tuple[int, list[ObjectInfo]]]:
        """All, in the order in which they came, at most ``size`` of one group at once."""
        rows = self._database.execute("SELECT group_, location, size, modified FROM spooled ORDER BY rowid")
        for number, group in groupby(rows, itemgetter(0)):
            while batch := [ObjectInfo(row[1], row[2], datetime.fromisoformat(row[3])) for row in islice(group, size)]:
                yield number, batch

    def within(self, first: str, last: str, *, without: Collection[str] = ()) -> Iterator[tuple[str]]:
        """The locations from ``first`` to ``last``, both included, in rows of one column.

        :param without: backends; what was named at these is left out.
        """
        self._order()
        marks = ", ".join("?" * len(without))
        return self._database.execute(
            f"SELECT location FROM spooled WHERE location BETWEEN ? AND ? AND group_ NOT IN ({marks})",
            (first, last, *without),
        )

    def _insert(self, rows: Iterable[tuple[str, int | None, str | None, int | str]]) -> None:
        self._ordered = False
        iterator = iter(rows)
        while batch := list(islice(iterator, _BATCH)):  # what gives them may take its time, outside of a transaction
            self._write("INSERT INTO spooled VALUES (?, ?, ?, ?)", batch)
            self._count += len(batch)

    def _order(self) -> None:
        if not self._ordered:
            with told_if_full():
                self._database.execute("CREATE INDEX IF NOT EXISTS by_location ON spooled (location)")
            self._ordered = True
