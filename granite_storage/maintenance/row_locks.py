"""Rows that other transactions have locked: nobody waits for them, since a wait would hold the locks of the others.

They are tried again after a pause, and else left to the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select

from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.outbox import skips_locked

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection
    from sqlalchemy.exc import DBAPIError

    from granite_storage.aio import WorkerPool

__all__ = ["LOCKED", "can_skip_rows", "is_locked_out", "lock_rows", "try_until_free"]

_Rows = TypeVar("_Rows", bound=Collection[Any])

LOCKED = "another transaction holds the row locked, or this role may not change it; run it again"
"""What is said of a row that is left."""

_ROW_LOCKS = ("postgresql", "mysql", "mariadb")
_SQLITE_LOCKED = (5, 6)  # SQLITE_BUSY and SQLITE_LOCKED, whatever they are extended by
_TRIES = 6
_FIRST_PAUSE = 0.1  # seconds between two of them; twice as long each time


def try_until_free(pool: WorkerPool, rows: _Rows, attempt: Callable[[_Rows], _Rows]) -> _Rows:
    """Do something with rows, and again with those that others hold locked; gives those that still are in the end.

    The pauses between are longer and longer, three seconds in all; an event loop is free meanwhile.

    :param attempt: is given rows, and gives those of them that others hold locked.
    """
    for number in range(_TRIES):
        if not rows:
            break
        if number:
            off_loop(pool, partial(time.sleep, _FIRST_PAUSE * 2 ** (number - 1)))
        rows = attempt(rows)
    return rows


def can_skip_rows(connection: Connection) -> bool:
    """Whether the database locks rows, and can leave out those that are locked."""
    return connection.dialect.name in _ROW_LOCKS and skips_locked(connection)


def lock_rows(
    connection: Connection,
    keys: Sequence[ColumnElement[Any]],
    which: ColumnElement[bool],
    *,
    for_unique: bool = False,
) -> set[tuple[Any, ...]]:
    """Lock rows that nobody else has locked, for the rest of the transaction; gives their primary keys.

    :param keys: the columns of the primary key.
    :param for_unique: whether a column that is unique may be written; else on PostgreSQL whoever inserts a row with a
        foreign key to one is no hindrance.
    """
    locking = select(*keys).where(which).order_by(*keys).with_for_update(key_share=not for_unique, skip_locked=True)
    return {tuple(row) for row in connection.execute(locking)}


def is_locked_out(connection: Connection, error: DBAPIError) -> bool:
    """Whether SQLite says that somebody else writes."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return connection.dialect.name == "sqlite" and code is not None and code & 0xFF in _SQLITE_LOCKED
