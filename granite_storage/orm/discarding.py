"""Deleting what is nobody's: claim the outbox rows, ask whether any row names the objects, delete, remove the rows.

The end of a transaction does this for what the transaction freed, a sweep for all that is due. Where the database has
row locks all of it is one short READ COMMITTED transaction, so that two workers never do the same rows and each
statement sees what was committed before it; elsewhere (SQLite) each step is one, and two workers may do the same twice,
which harms nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from granite_storage.deletion import delete_objects, told
from granite_storage.exceptions import StorageError
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.outbox import OutboxRow, claim_rows, outbox_of, postpone, remove
from granite_storage.orm.references import Asking, Identity, named

if TYPE_CHECKING:
    from granite_storage.backends.base import DeleteFailure
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Desk, Site
    from granite_storage.refs import StoredObjectRef

__all__ = ["STUCK_ATTEMPTS", "Discarded", "discard", "work_off"]

STUCK_ATTEMPTS = 5
"""After so many failed attempts a freed object is reported as stuck."""

_FIRST_PAUSE = 60.0  # seconds until a delete that failed is tried again; twice as long each time
_LONGEST_PAUSE = 24 * 3600.0
_log = logging.getLogger("granite_storage")


@dataclass(slots=True)
class Discarded:
    """What became of objects that were to be deleted."""

    deleted: list[StoredObjectRef] = field(default_factory=list)
    named: int = 0
    """How many something names (again), so that they stay."""
    failed: list[DeleteFailure] = field(default_factory=list)
    rows: list[OutboxRow] = field(default_factory=list)
    """The outbox rows that were claimed."""
    postponed: int = 0
    """How many of them stay, to be tried again later."""


def discard(manager: StorageManager, refs: Collection[StoredObjectRef], asking: Asking) -> Discarded:
    """Delete those objects that nothing names; off the event loop where there is one.

    :raises SQLAlchemyError: if a database does not answer; then nothing is deleted.
    """
    done = Discarded()
    by_object: dict[Identity, StoredObjectRef] = {manager.identity(ref): ref for ref in refs}
    if by_object:
        for identity in named(manager, by_object, asking):
            del by_object[identity]
            done.named += 1
        asking.end_step()
        for identity in by_object.keys() & set(asking.kept):
            del by_object[identity]
            done.named += 1
        done.failed = off_loop(manager.pool, lambda: delete_objects(manager, by_object.values()))
        failures = {manager.identity(one.ref) for one in done.failed}
        done.deleted = [ref for identity, ref in by_object.items() if identity not in failures]
    return done


def work_off(
    manager: StorageManager,
    site: Site,
    desk: Desk,
    asking: Asking,
    *,
    locations: Collection[str] | None = None,
    after: int = 0,
    doomed: Iterable[StoredObjectRef] = (),
) -> Discarded:
    """Delete what the outbox of a site says is free, and remove its rows; the transaction is ended.

    :param locations: only the rows of these; by default one batch of all that is due.
    :param after: only rows with a greater id.
    :param doomed: objects to delete with them that have no row in the outbox.
    """
    outbox = outbox_of(site.metadata)
    assert outbox is not None
    connection = desk.connection
    rows = list(claim_rows(connection, outbox, locations=locations, after=after, retained=manager.retained()))
    desk.end_step()
    known: dict[int, StoredObjectRef] = {}
    problems: list[tuple[OutboxRow, str]] = []
    for row in rows:
        if row.ref is None:
            problems.append((row, row.problem))
            continue
        try:
            manager.identity(row.ref)
        except StorageError as error:
            problems.append((row, str(error)))
        else:
            known[row.id] = row.ref
    done = discard(manager, [*doomed, *known.values()], asking.at(desk))
    done.rows = rows
    failures = {manager.identity(one.ref): told(one.error) for one in done.failed}
    told_of = ((row, manager.identity(known[row.id])) for row in rows if row.id in known)
    problems += [(row, failures[identity]) for row, identity in told_of if identity in failures]
    failed = {row.id for row, _ in problems}
    done.postponed = len(failed)
    remove(connection, outbox, [row.id for row in rows if row.id not in failed])
    postpone(connection, outbox, [(row, error, _pause(row.attempts)) for row, error in problems])
    connection.commit()
    return done


def _pause(attempts: int) -> float:
    return min(_FIRST_PAUSE * 2.0 ** min(attempts, 20), _LONGEST_PAUSE)
