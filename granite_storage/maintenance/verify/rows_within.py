"""What rows say of the locations in some intervals: of one backend, or for one part that several go about.

SQLite, MariaDB and MySQL keep the location index in byte order, so that the rows of an interval are one stretch of it,
and are asked for page by page, each after its objects were listed. PostgreSQL keeps it in the order of the database's
language; so there, and where a column has no such index, the database goes through the column once, in stretches by
primary key, and the rows of the intervals are written into a file on disk. That is so as well where there are very
many databases.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import BindParameter, and_, bindparam, func, null, or_, select

from granite_storage.maintenance.garbage.references import MANY_SITES
from granite_storage.maintenance.plain_rows import plain_rows
from granite_storage.maintenance.verify.naming import END, RowSpool, Said
from granite_storage.orm.location_index import has_location_index, in_byte_order, indexed_location
from granite_storage.orm.members import SizeAsText
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

    from granite_storage.aio import WorkerPool
    from granite_storage.maintenance.places import FileColumnAt
    from granite_storage.maintenance.verify.intervals import Interval

__all__ = ["RowsWithin"]

_Text = str | BindParameter[str]
_OTHER_ORDER = ("postgresql",)
_DIGITS = 20  # a size has fewer


class RowsWithin:
    """The rows of columns whose locations lie in some intervals.

    :param checksums: whether to give checksums, too.
    """

    def __init__(
        self, pool: WorkerPool, columns: Sequence[FileColumnAt], intervals: Sequence[Interval], *, checksums: bool
    ) -> None:
        self._columns, self._intervals, self._checksums = columns, intervals, checksums
        few = len({at.site for at in columns}) <= MANY_SITES
        self._asked = [at for at in columns if few and _in_byte_order(at)]
        self._statements: dict[tuple[FileColumnAt, bool], Select[Any]] = {}
        self._spool = RowSpool(pool, checksums=checksums)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.__exit__(kind, error, trace)

    def read(self) -> None:
        """Read those rows that cannot be asked for page by page."""
        for at in self._columns:
            if at not in self._asked:
                place = in_byte_order(at.site.engine.dialect.name, FileComparator(at.column).location)
                self._spool.read(at, or_(*(_within(place, one.after, one.upto) for one in self._intervals)))
        self._spool.order()

    def page(self, after: str, upto: str, limit: int) -> list[Said]:
        """The first rows behind one location up to another, in byte order."""
        found = [self._page(at, after, upto, limit) for at in self._asked]
        if len(self._asked) < len(self._columns):
            found.append(self._spool.page(after, upto, limit))
        if len(found) == 1:
            return found[0]
        return sorted(chain.from_iterable(found), key=itemgetter(0))[:limit]

    def count(self, after: str, upto: str, backends: Collection[str]) -> int:
        """How many rows are behind one location up to another, at a backend of one of these names."""
        count = self._spool.count(after, upto, backends)
        for at in self._asked:
            with at.site.desk() as desk:
                place = in_byte_order(desk.connection.dialect.name, indexed_location(desk.connection, at.column))
                named = FileComparator(at.column).backend.in_(sorted(backends))
                statement = select(func.count()).select_from(at.column.table)
                count += desk.connection.scalar(statement.where(_within(place, after, upto), named)) or 0
        return count

    def _page(self, at: FileColumnAt, after: str, upto: str, limit: int) -> list[Said]:
        with at.site.desk() as desk:
            statement = self._statement(desk.connection, at, ends=upto != END)
            found = plain_rows(desk.connection, statement, {"after": after, "upto": upto, "most": limit})
            rows: Any = [*chain.from_iterable(found)]
        if at.site.engine.dialect.name != "sqlite":  # which gives numbers where there are some
            return [(place, _number(size), backend, checksum) for place, size, backend, checksum in rows]
        said: list[Said] = rows
        return said

    def _statement(self, connection: Connection, at: FileColumnAt, *, ends: bool) -> Select[Any]:
        """What reads a page; it is made once, since there is one page for every few thousand rows."""
        if (at, ends) not in self._statements:
            file = FileComparator(at.column)
            place = in_byte_order(connection.dialect.name, indexed_location(connection, at.column))
            statement: Any = select(
                place, SizeAsText(at.column), file.backend, file.checksum if self._checksums else null()
            )
            within = _within(place, bindparam("after"), bindparam("upto") if ends else END)
            self._statements[at, ends] = statement.where(within).order_by(place).limit(bindparam("most"))
        return self._statements[at, ends]


def _in_byte_order(at: FileColumnAt) -> bool:
    return has_location_index(at.column) and at.site.engine.dialect.name not in _OTHER_ORDER


def _within(place: ColumnElement[str], after: _Text, upto: _Text) -> ColumnElement[bool]:
    return place > after if isinstance(upto, str) and upto == END else and_(place > after, place <= upto)


def _number(size: Any) -> Any:
    """A size as a number, where it is one: some databases give texts."""
    return int(size) if isinstance(size, str) and size.isdecimal() and len(size) < _DIGITS else size
