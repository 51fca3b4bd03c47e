"""What rows say of their objects: all of them on disk, in the byte order of locations; and some of them, asked anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import select

from granite_storage.files import StoredFile
from granite_storage.maintenance.keyset import stretches_of_rows
from granite_storage.maintenance.spool import Spool, told_if_full
from granite_storage.maintenance.unreadable import problem_of
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.location_index import indexed_location
from granite_storage.orm.members import SizeAsText, TellsLocation
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from granite_storage.aio import WorkerPool
    from granite_storage.maintenance.places import FileColumnAt
    from granite_storage.refs import StoredObjectRef

__all__ = ["END", "NamingRow", "RowSpool", "Rows", "Said", "rows_naming"]

END = "\U0010ffff"
"""Behind every location that a ref can have."""

Said = tuple[str, Any, str | None, str | None]
"""What a row says: location, size, backend, checksum (only if it was asked for)."""

_STRETCH = 10_000
_FETCHED = 1000


@dataclass(frozen=True, slots=True)
class NamingRow:
    """A row that names an object, as committed when it was asked.

    :param ref: None if it cannot be decoded; ``problem`` says why.
    :param tells: whether the location stands there as a text; else it is told of as a row that tells none.
    """

    at: FileColumnAt
    key: tuple[Any, ...]
    location: str
    ref: StoredObjectRef | None
    problem: str = ""
    tells: bool = True


class Rows(Protocol):
    """What rows say, in the byte order of locations."""

    def page(self, after: str, upto: str, limit: int) -> list[Said]:
        """The first rows behind one location up to another, in byte order."""
        ...

    def count(self, after: str, upto: str, backends: Collection[str]) -> int:
        """How many rows are behind one location up to another, at a backend of one of these names."""
        ...


class RowSpool(Spool):
    """What all rows say.

    :param checksums: whether to keep checksums, too.
    """

    def __init__(self, pool: WorkerPool, *, checksums: bool) -> None:
        # INTEGER makes numbers of the texts that some databases give
        super().__init__("location TEXT NOT NULL, size INTEGER, backend TEXT, checksum TEXT")
        self._pool, self._checksums = pool, checksums

    def read(self, at: FileColumnAt, *where: ColumnElement[bool]) -> None:
        """Take every row of a column that tells a location.

        :param where: which rows; all by default.
        """
        column, keys = at.column, at.keys
        file = FileComparator(column)
        said = [file.location, SizeAsText(column), file.backend]
        if self._checksums:
            said.append(file.checksum)
        width = len(said)
        members = itemgetter(*range(width))
        statement = select(*said, *keys).where(column.is_not(None), *where)
        for rows in stretches_of_rows(at.site, statement, keys, _STRETCH):
            off_loop(self._pool, partial(self._add, map(members, rows), width))

    def order(self) -> None:
        """Put them in order, once all are read."""
        with told_if_full():
            off_loop(
                self._pool,
                lambda: self._database.execute("CREATE INDEX ordered ON spooled (location, size, backend, checksum)"),
            )

    def page(self, after: str, upto: str, limit: int) -> list[Said]:
        """The first rows behind one location up to another, in byte order."""
        statement = (
            "SELECT location, size, backend, checksum FROM spooled WHERE location > ? AND location <= ? "
            "ORDER BY location LIMIT ?"
        )
        return off_loop(self._pool, lambda: self._database.execute(statement, (after, upto, limit)).fetchall())

    def count(self, after: str, upto: str, backends: Collection[str]) -> int:
        """How many rows are behind one location up to another, at a backend of one of these names."""
        marks = ", ".join("?" * len(backends))
        (count,) = self._database.execute(
            f"SELECT count(*) FROM spooled WHERE location > ? AND location <= ? AND backend IN ({marks})",
            (after, upto, *backends),
        ).fetchone()
        return int(count)

    def _add(self, rows: Iterable[Sequence[Any]], width: int) -> None:
        columns = ("location", "size", "backend", "checksum")[:width]
        self._write(f"INSERT OR IGNORE INTO spooled ({', '.join(columns)}) VALUES ({', '.join('?' * width)})", rows)


def rows_naming(at: FileColumnAt, locations: Sequence[str]) -> Iterator[NamingRow]:
    """The rows of a column that name, or may name, something at these locations, as committed now."""
    column, wanted = at.column, frozenset(locations)
    with at.site.desk() as desk:
        connection = desk.connection
        place = indexed_location(connection, column)
        members = FileComparator(column).location, TellsLocation(column)
        statement = select(column, *members, *at.keys).where(place.in_(locations))
        found: Any
        with connection.execute(statement.execution_options(yield_per=_FETCHED)) as found:
            for rows in found.partitions():
                for value, location, tells, *key in rows:
                    if location in wanted:  # without the index, MariaDB finds what differs in case, too
                        yield _naming_row(at, tuple(key), location, value, bool(tells))


def _naming_row(at: FileColumnAt, key: tuple[Any, ...], location: str, value: Any, tells: bool) -> NamingRow:
    problem = problem_of(value)
    ref = None if problem else value.ref if isinstance(value, StoredFile) else value
    return NamingRow(at, key, location, ref, problem, tells)
