"""Going through a table in stretches, in the order of its primary key: no transaction lasts longer than a stretch.

Rows are put in order by the very thing by which they are compared (:func:`in_order`), or some would be left out. A row
whose key is NULL in part, as SQLite lets it be, is behind no other: it is asked for by itself (:func:`has_key`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import gt, le, lt
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, and_, literal, or_, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.key_types import comes_back_changed, is_named

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement

    from granite_storage.orm.sites import Site

__all__ = ["behind", "check_progress", "has_key", "in_order", "is_row", "lacks_key", "stretches_of_rows", "up_to"]

_Compare = Callable[[Any, Any], "ColumnElement[bool]"]
_SPELLED_OUT = ("mysql", "mariadb")  # which use no index for an order of tuples


class _Name(FunctionElement[str]):
    """What a value of ENUM is called, character by character."""

    type = String()
    inherit_cache = True


@compiles(_Name)
def _name(element: Any, compiler: Any, **kw: Any) -> str:
    return f"CONVERT({compiler.process(element.clauses, **kw)} USING utf8mb4) COLLATE utf8mb4_bin"


def in_order(dialect: str, keys: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """What to order rows by.

    MySQL and MariaDB put values of ENUM in the order of their declaration, and compare them as texts.

    >>> from sqlalchemy import Column, Enum, Integer
    >>> keys = [Column("a", Integer), Column("b", Enum("z", "a"))]
    >>> print(*in_order("sqlite", keys))
    a b
    >>> print(*in_order("mysql", keys))
    a CONVERT(b USING utf8mb4) COLLATE utf8mb4_bin
    """
    return [_ordered(dialect, one, one) for one in keys]


def has_key(keys: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """What leaves out rows that nobody can name: SQLite lets a primary key be NULL."""
    return and_(*(one.is_not(None) for one in keys))


def lacks_key(keys: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """The rows that :func:`has_key` leaves out."""
    return or_(*(one.is_(None) for one in keys))


def behind(dialect: str, keys: Sequence[ColumnElement[Any]], key: Sequence[Any]) -> ColumnElement[bool]:
    """The rows behind one, in the order of the primary key.

    As an order of tuples, which one look into the primary key answers; spelled out where it would not be used.

    :param dialect: the database's name.
    :param keys: the primary key's columns.

    >>> from sqlalchemy import Column, Integer
    >>> keys = [Column("a", Integer), Column("b", Integer)]
    >>> print(behind("sqlite", keys, [1, 2]))
    (a, b) > (:param_1, :param_2)
    >>> print(behind("mysql", keys, [1, 2]))
    a > :param_1 OR a = :param_2 AND b > :param_3
    """
    return _compared(dialect, keys, key, gt, gt)


def up_to(dialect: str, keys: Sequence[ColumnElement[Any]], key: Sequence[Any]) -> ColumnElement[bool]:
    """The rows up to one, itself included; arguments as of :func:`behind`."""
    return _compared(dialect, keys, key, lt, le)


def is_row(keys: Sequence[ColumnElement[Any]], key: Sequence[Any]) -> ColumnElement[bool]:
    """What tells one row."""
    return and_(*(one == literal(value, one.type) for one, value in zip(keys, key, strict=True)))


def _compared(
    dialect: str, keys: Sequence[ColumnElement[Any]], key: Sequence[Any], strictly: _Compare, compare: _Compare
) -> ColumnElement[bool]:
    values = (_ordered(dialect, one, literal(value, one.type)) for one, value in zip(keys, key, strict=True))
    *first, last = zip(in_order(dialect, keys), values, strict=True)
    if not first:
        return compare(*last)
    if dialect not in _SPELLED_OUT:
        return compare(tuple_(*keys), tuple_(*(value for _, value in (*first, last))))
    steps = [and_(is_row(keys[:n], key[:n]), strictly(*pair)) if n else strictly(*pair) for n, pair in enumerate(first)]
    return or_(*steps, and_(is_row(keys[:-1], key[:-1]), compare(*last)))


def _ordered(dialect: str, key: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return _Name(value) if is_named(dialect, key.type) else value


def check_progress(table: str, last: Sequence[Any] | None, found: Sequence[Any]) -> None:
    """See that a page does not have the row again that it is to begin behind, or it would never end.

    :param last: the key that it is to begin behind.
    :param found: the key of its first row.
    :raises ConfigurationError: naming the table.
    """
    if last is not None and tuple(found) == tuple(last):
        raise ConfigurationError(
            f"{table}: the database gives its primary key as {tuple(last)!r}, and finds that very row behind this key; "
            "let the type of the key be one whose values come back as they are"
        )


def stretches_of_rows(site: Site, statement: Any, keys: Sequence[Column[Any]], size: int) -> Iterator[Any]:
    """The rows of a statement, a list of at most ``size`` at once, each in a transaction of its own.

    A table is read in one transaction if it has no primary key, or one that does not come back as it is; likewise the
    rows whose key is NULL in part.

    :param statement: what chooses the rows; ``keys`` are its last columns.
    """
    dialect = site.engine.dialect.name
    walked = bool(keys) and not comes_back_changed(dialect, keys)
    if not walked or dialect == "sqlite":  # no other lets a primary key be NULL
        at_once = statement.where(lacks_key(keys)) if walked else statement
        at_once = at_once.execution_options(yield_per=size)
        with site.desk() as desk, desk.connection.execute(at_once) as found:
            yield from found.partitions()
    if not walked:
        return
    ordered = statement.where(has_key(keys)).order_by(*in_order(dialect, keys)).limit(size)
    rows: Sequence[Any] = ()
    while True:
        with site.desk() as desk:
            last = tuple(rows[-1])[-len(keys) :] if rows else None
            asked = ordered if last is None else ordered.where(behind(dialect, keys, last))
            rows = desk.connection.execute(asked).all()
        if rows:
            check_progress(keys[0].table.name, last, rows[0][-len(keys) :])
            yield rows
        if len(rows) < size:
            return
