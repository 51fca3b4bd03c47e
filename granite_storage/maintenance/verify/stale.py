"""Rows of the outbox that are not true: a row of the application names the object, or the object is gone.

Either is harmless, and a sweep removes it once it is due. The rows are read without a lock, or the end of a transaction
would leave them to the sweep; only those that are not true are locked, to see that nobody is working on them just now.
SQLite has no locks that would tell, and a role that may only read is refused them: so what is gone is looked at twice,
since whoever works on the outbox deletes the object first and its row right after.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

from granite_storage.exceptions import StorageError
from granite_storage.maintenance.places import with_outbox
from granite_storage.maintenance.verify.looking import look
from granite_storage.maintenance.verify.report import Finding, FindingKind
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.outbox import OutboxRow, lock_idle, outbox_of, remove, rows_after, seen_idle
from granite_storage.orm.references import Asking, Identity, named

if TYPE_CHECKING:
    from granite_storage.maintenance.verify.report import VerifyReport
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Desk, Site

__all__ = ["stale_rows"]

_PAUSE = 1.0  # seconds


def stale_rows(
    manager: StorageManager, sites: Collection[Site], asking: Asking, report: VerifyReport
) -> Iterator[Finding]:
    """What is not true in the outboxes of these sites; with ``repair`` such rows are removed."""
    for site in with_outbox(sites):
        outbox = outbox_of(site.metadata)
        assert outbox is not None
        last: int | None = 0
        while last is not None:
            with site.desk() as desk:
                rows = rows_after(desk.connection, outbox, last)
                desk.connection.rollback()
                found = _judge(manager, rows, asking, desk)
                if not report.repair:
                    sure = seen_idle(desk.connection, outbox, found)
                    if any(found[number].kind is FindingKind.OUTBOX_GONE for number in sure):
                        off_loop(manager.pool, partial(time.sleep, _PAUSE))
                        sure = seen_idle(desk.connection, outbox, sure)
                else:
                    sure = lock_idle(desk.connection, outbox, found)
                    remove(desk.connection, outbox, sure)
                    desk.connection.commit()
                    report.repaired += len(sure)
            yield from (finding for number, finding in found.items() if number in sure)
            last = max((row.id for row in rows), default=None)


def _judge(manager: StorageManager, rows: list[OutboxRow], asking: Asking, desk: Desk) -> dict[int, Finding]:
    """The findings by the ids of the outbox rows."""
    known: dict[int, Identity] = {}
    for row in rows:
        if row.ref is not None:
            try:
                known[row.id] = manager.identity(row.ref)
            except StorageError:  # a sweep reports it as stuck
                continue
    again = named(manager, known.values(), asking.at(desk))
    desk.connection.rollback()
    gone = _gone(manager, set(known.values()) - again)
    findings = {}
    for number, identity in known.items():
        if identity in again:
            findings[number] = Finding(FindingKind.OUTBOX_NAMED, *identity)
        elif identity in gone:
            findings[number] = Finding(FindingKind.OUTBOX_GONE, *identity)
    return findings


def _gone(manager: StorageManager, identities: Collection[Identity]) -> set[Identity]:
    gone = set()
    for key in {key for key, _ in identities}:
        seen = look(manager, key, [location for backend, location in identities if backend == key])
        gone |= {
            (key, location)
            for location, size in seen.items()
            if isinstance(size, tuple) and size[0] is FindingKind.MISSING
        }
    return gone
