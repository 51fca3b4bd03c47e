"""Going through a table in stretches, in the order of its primary key: no transaction lasts longer than a stretch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import gt, le, lt
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, literal, or_, tuple_

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement

    from granite_storage.orm.sites import Site

__all__ = ["behind", "is_row", "stretches_of_rows", "up_to"]

_Compare = Callable[[Any, Any], "ColumnElement[bool]"]
_SPELLED_OUT = ("mysql", "mariadb")  # which use no index for an order of tuples


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
    *first, last = zip(keys, (literal(value, one.type) for one, value in zip(keys, key, strict=True)), strict=True)
    if not first:
        return compare(*last)
    if dialect not in _SPELLED_OUT:
        return compare(tuple_(*keys), tuple_(*(value for _, value in (*first, last))))
    steps = [and_(is_row(keys[:n], key[:n]), strictly(*pair)) if n else strictly(*pair) for n, pair in enumerate(first)]
    return or_(*steps, and_(is_row(keys[:-1], key[:-1]), compare(*last)))


def stretches_of_rows(site: Site, statement: Any, keys: Sequence[Column[Any]], size: int) -> Iterator[Any]:
    """The rows of a statement, a list of at most ``size`` at once, each in a transaction of its own.

    A table without a primary key is read in one transaction.

    :param statement: what chooses the rows; ``keys`` are its last columns.
    """
    if not keys:
        with site.desk() as desk:
            yield from desk.connection.execute(statement.execution_options(yield_per=size)).partitions()
        return
    ordered = statement.order_by(*keys).limit(size)
    rows: Sequence[Any] = ()
    while True:
        with site.desk() as desk:
            last = tuple(rows[-1])[-len(keys) :] if rows else None
            asked = ordered if last is None else ordered.where(behind(desk.connection.dialect.name, keys, last))
            rows = desk.connection.execute(asked).all()
        if rows:
            yield rows
        if len(rows) < size:
            return
