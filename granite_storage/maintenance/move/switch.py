"""The switch: rows name the copies from now on, each by compare-and-set, and what they named is free; one transaction.

A row that another transaction has locked is waited for by nobody: it is left for the next attempt, since a wait would
hold the locks of the others. A lock of the whole table is waited for nevertheless, so that the age of the copies is
looked at right before the COMMIT: what a sweep may take for left over by then is named by no row. A row that has
another value by now keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from granite_storage.maintenance.deferred import check_deferred
from granite_storage.maintenance.row_locks import can_skip_rows, is_locked_out
from granite_storage.orm.changes import Free
from granite_storage.orm.ledger import is_too_old
from granite_storage.orm.outbox import outbox_of, write_freed
from granite_storage.orm.refusals import is_read_only
from granite_storage.orm.triggers import triggers_stand

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.maintenance.move.rows import Place, Row
    from granite_storage.manager import StorageManager
    from granite_storage.refs import StoredObjectRef

__all__ = ["Copy", "Switched", "switch"]


@dataclass(frozen=True, slots=True)
class Copy:
    """A row's file, copied; the row does not name the copy yet."""

    row: Row
    old: StoredObjectRef
    new: StoredObjectRef
    on_server: bool
    seconds: float = 0.0
    """How long that took."""


@dataclass(slots=True)
class Switched:
    """What became of copies."""

    won: list[Copy] = field(default_factory=list)
    """Their rows name them, durably."""
    lost: list[Copy] = field(default_factory=list)
    """Their rows are gone, or hold something else."""
    expired: list[Copy] = field(default_factory=list)
    """A sweep may take one of them for left over, so long did it take: copy them again."""
    busy: list[Copy] = field(default_factory=list)
    """Their rows are locked by others: try again."""
    refused: list[tuple[Copy, DBAPIError]] = field(default_factory=list)
    """The database takes no such change of their rows."""

    def add(self, other: Switched) -> None:
        """Take over what became of others."""
        for mine, more in zip(self._lists(), other._lists(), strict=True):
            mine += more

    def _lists(self) -> tuple[list[object], ...]:
        return (self.won, self.lost, self.expired, self.busy, self.refused)  # type: ignore[return-value]


def switch(manager: StorageManager, place: Place, copies: Sequence[Copy], ours: list[Copy]) -> Switched:
    """Switch rows to their copies, in one transaction; each by itself if the database objects to one of them.

    :param ours: the copies that nobody names. Those whose COMMIT is sent are taken out before: if no answer comes,
        nobody knows whether it is durable, and they are a sweep's to judge.
    :raises DBAPIError: if the connection is lost, a COMMIT fails, or nothing may be written.
    """
    done = Switched()
    with place.site.desk() as desk:
        connection = desk.connection
        by_trigger = triggers_stand(connection, place.column)
        connection.rollback()
        try:
            done.add(_switch(manager, connection, place, copies, ours, by_trigger=by_trigger))
        except DBAPIError as error:
            _may_go_on(connection, error, copies, ours)
            if is_locked_out(connection, error):
                done.busy += copies
                return done
            if is_read_only(error):
                raise
            for copy in copies:
                try:
                    done.add(_switch(manager, connection, place, [copy], ours, by_trigger=by_trigger))
                except DBAPIError as refusal:
                    _may_go_on(connection, refusal, [copy], ours)
                    done.refused.append((copy, refusal))
    return done


def _switch(
    manager: StorageManager,
    connection: Connection,
    place: Place,
    copies: Sequence[Copy],
    ours: list[Copy],
    *,
    by_trigger: bool,
) -> Switched:
    done = Switched()
    free = list(copies)
    if can_skip_rows(connection):
        locked_by_us = place.unlocked(connection, (copy.row.key for copy in copies))
        free = [copy for copy in copies if copy.row.key in locked_by_us]
        others = [copy for copy in copies if copy.row.key not in locked_by_us]
        now = place.read(connection, (copy.row.key for copy in others)) if others else {}
        for copy in others:  # what is gone cannot be locked, either
            same = copy.row.key in now and now[copy.row.key].text == copy.row.text
            (done.busy if same else done.lost).append(copy)
    for copy in free:
        switched = connection.execute(place.switching(connection.dialect.name, copy.row, copy.new)).rowcount == 1
        (done.won if switched else done.lost).append(copy)
    outbox = outbox_of(place.site.metadata)
    if outbox is not None and not by_trigger and done.won:
        write_freed(connection, outbox, list(_freed(manager, place, done.won)))
    check_deferred(connection)
    if any(is_too_old(manager, copy.new.location) for copy in done.won):
        connection.rollback()
        done.expired, done.won = done.won, []
        return done
    sent = {id(copy) for copy in done.won}
    unsent = [copy for copy in ours if id(copy) not in sent]
    before, ours[:] = list(ours), unsent
    try:
        connection.commit()
    except DBAPIError as error:
        if is_locked_out(connection, error):  # it is still in the transaction: nothing is durable
            ours[:] = before
        raise
    return done


def _freed(manager: StorageManager, place: Place, copies: Iterable[Copy]) -> Iterable[Free]:
    for copy in copies:
        yield Free(manager, place.site, copy.old, place.name)


def _may_go_on(connection: Connection, error: DBAPIError, copies: Iterable[Copy], ours: Iterable[Copy]) -> None:
    """End the transaction; raises the error if nobody can say what became of it: its COMMIT was sent."""
    unnamed = {id(copy) for copy in ours}
    if error.connection_invalidated or any(id(copy) not in unnamed for copy in copies):
        raise error
    connection.rollback()
    if connection.dialect.name == "sqlite":  # a COMMIT that it refused leaves the driver in its transaction
        connection.connection.rollback()
