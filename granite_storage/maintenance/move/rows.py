"""The rows of a file column: read in small batches by primary key, each with the very text that stands in the column.

A table is gone through in stretches of :data:`STRETCH` rows, so that no statement lasts as long as a scan of a large
table in which little is left to move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, Text, cast, func, literal, or_, select, update

from granite_storage.exceptions import InvalidRefError
from granite_storage.maintenance.keyset import behind, check_progress, has_key, in_order, is_row, lacks_key, up_to
from granite_storage.maintenance.places import FileColumnAt
from granite_storage.maintenance.row_locks import lock_rows
from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Connection, Select, Update

    from granite_storage.maintenance.move.selection import Selection

__all__ = ["STRETCH", "Key", "KeyRange", "Place", "Row"]

STRETCH = 10_000
"""How many rows, whatever they hold, one statement looks at."""

Key = tuple[Any, ...]
"""A primary key."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The rows behind a primary key up to another, in the database's own order of them; None where there is no end."""

    after: Key | None = None
    upto: Key | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its key, the text in the column, and the ref; None, and ``problem``, if it is none."""

    key: Key
    text: str
    ref: StoredObjectRef | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Place(FileColumnAt):
    """A column of refs in a database, as a move reads and writes it."""

    def batches(self, selection: Selection, size: int, keys: KeyRange = KeyRange()) -> Iterator[list[Row]]:
        """The rows whose refs are selected, at most ``size`` at once; each batch is read when it is asked for.

        :param keys: only these; all by default.
        """
        last = keys.after
        while True:
            end = self.key_behind(KeyRange(last, keys.upto), STRETCH)
            while rows := self._read_after(selection, last, keys.upto if end is None else end, size):
                last = rows[-1].key
                yield [row for row in rows if row.ref is None or selection.has(row.ref)]
            if end is None:
                return
            last = end

    def read(self, connection: Connection, keys: Iterable[Key]) -> dict[Key, Row]:
        """Rows as they are committed now; those that are gone, or hold no file, are left out."""
        statement = self._reading().where(self.named(keys))
        return {row.key: row for row in map(_row, connection.execute(statement)) if row is not None}

    def unlocked(self, connection: Connection, keys: Iterable[Key]) -> set[Key]:
        """Lock rows that nobody else has locked, for the rest of the transaction, and wait for none."""
        return lock_rows(connection, self.keys, self.named(keys))

    def switching(self, dialect: str, row: Row, ref: StoredObjectRef) -> Update:
        """The UPDATE that has a row name another object, if it still holds the very text that was read.

        To the application it is no change: what a column's ``onupdate`` would set stays as it is.
        """
        kept = {
            column: column
            for column in self.column.table.columns
            if (column.onupdate is not None or column.server_onupdate is not None) and column.computed is None
        }
        held: ColumnElement[Any] = _text(self.column)
        text: ColumnElement[Any] = literal(row.text, Text())
        if dialect in GENERATED_COLUMN_DIALECTS:  # byte by byte, whatever the collation
            held, text = cast(held, LargeBinary()), cast(text, LargeBinary())
        return update(self.column.table).where(self.named([row.key]), held == text).values({**kept, self.column: ref})

    def named(self, keys: Iterable[Key]) -> ColumnElement[bool]:
        """What tells the rows of these keys."""
        wanted, columns = list(keys), self.keys
        if len(columns) == 1:
            return columns[0].in_([literal(key[0], columns[0].type) for key in wanted])
        return or_(*(is_row(columns, key) for key in wanted))

    def key_behind(self, keys: KeyRange, count: int) -> Key | None:
        """The primary key of the row with which ``count`` rows of a range are full; None if it has fewer."""
        statement = select(*self.keys).offset(count - 1).limit(1)
        with self.site.desk() as desk:
            found = desk.connection.execute(self._within(desk.connection, statement, keys.after, keys.upto)).first()
        if found is None:
            return None
        check_progress(self.table, keys.after, found)
        return tuple(found)

    def count_unnamed(self, selection: Selection) -> int:
        """How many of the selected rows have a primary key that is NULL in part, by which nobody can tell them."""
        statement = select(func.count()).select_from(self.column.table)
        with self.site.desk() as desk:
            selected = statement.where(lacks_key(self.keys), selection.condition(self.column))
            return desk.connection.scalar(selected) or 0

    def _read_after(self, selection: Selection, last: Key | None, end: Key | None, size: int) -> list[Row]:
        statement = self._reading().where(selection.condition(self.column)).limit(size)
        with self.site.desk() as desk:
            found = desk.connection.execute(self._within(desk.connection, statement, last, end))
            rows = [row for row in map(_row, found) if row is not None]
        if rows:
            check_progress(self.table, last, rows[0].key)
        return rows

    def _within(
        self, connection: Connection, statement: Select[Any], after: Key | None, upto: Key | None
    ) -> Select[Any]:
        dialect = connection.dialect.name
        statement = statement.where(has_key(self.keys)).order_by(*in_order(dialect, self.keys))
        if after is not None:
            statement = statement.where(behind(dialect, self.keys, after))
        if upto is not None:
            statement = statement.where(up_to(dialect, self.keys, upto))
        return statement

    def _reading(self) -> Select[Any]:
        return select(*self.keys, _text(self.column)).where(self.column.is_not(None))


def _text(column: Column[Any]) -> ColumnElement[str]:
    return cast(column, Text())


def _row(values: Sequence[Any]) -> Row | None:
    *key, text = values
    if text is None or text == "null":
        return None
    try:
        return Row(tuple(key), text, StoredObjectRef.from_json(text))
    except InvalidRefError as error:
        return Row(tuple(key), text, None, str(error)[:500])
