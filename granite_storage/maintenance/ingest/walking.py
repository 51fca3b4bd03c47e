"""Walking a table in batches, in either direction; a row that somebody else writes meanwhile is read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, Connection, func, select

from granite_storage.exceptions import InvalidUploadError
from granite_storage.maintenance.ingest.keyed_table import Keys
from granite_storage.maintenance.keyset import check_progress

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.keyed_table import Key, KeyedTable
    from granite_storage.maintenance.ingest.report import ConversionReport
    from granite_storage.maintenance.ingest.reporting import Reporter
    from granite_storage.maintenance.ingest.working import Work

__all__ = ["Direction", "count", "walk"]

_ATTEMPTS = 3


class Direction(Protocol):
    """What is done with the rows."""

    def page(self, which: ColumnElement[bool]) -> Sequence[Any]:
        """The next of these rows, in the order of the primary key, as many as fit into one batch; each has a key."""
        ...

    def convert(self, rows: Sequence[Any]) -> list[Key]:
        """Convert a batch of rows, and commit; gives the keys of those that somebody else wrote meanwhile."""
        ...


def count(connection: Connection, table: KeyedTable, waiting: ColumnElement[bool]) -> int:
    """How many rows there are to do."""
    return connection.scalar(select(func.count()).select_from(table.clause).where(waiting)) or 0


def walk(
    work: Work, table: KeyedTable, waiting: ColumnElement[bool], direction: Direction, reporter: Reporter
) -> ConversionReport:
    """Convert all rows that wait for it.

    :raises ConversionError: if rows cannot be converted, or are left.
    """
    last: Key | None = None
    while rows := direction.page(table.after(last)):
        check_progress(table.clause.fullname, last, rows[0].key)
        last = rows[-1].key
        lost = direction.convert(rows)
        for _ in range(_ATTEMPTS - 1):
            lost = [*_again(table, direction, lost)]
        for key in lost:
            reporter.fail(key, InvalidUploadError("it is written again and again; stop what writes it"))
        reporter.batch_ended()
    left = count(work.connection, table, waiting)
    work.commit()
    return reporter.end(left)


def _again(table: KeyedTable, direction: Direction, keys: Sequence[Key]) -> Iterator[Key]:
    """Read rows again, and convert them; gives the keys of those that somebody else wrote meanwhile.

    Those that are gone, or wait no more, are read by no page.
    """
    for some, _ in table.batches(keys):
        left = some
        while left:
            ((_, which),) = table.batches(left)
            rows = direction.page(which)
            if not rows:
                break
            yield from direction.convert(rows)
            read = Keys(row.key for row in rows)
            before, left = left, [key for key in left if key not in read]
            if len(left) == len(before):  # the database calls them otherwise by now
                break
