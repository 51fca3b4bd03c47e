"""What the end of a root transaction deletes: what it freed, if it committed, and what it stored for nothing.

Nothing here may fail the user's commit, which is durable, or wedge the session. What could not be deleted stands in the
outbox, or is a recent upload that no row names; a sweep finds both.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.discarding import discard, work_off
from granite_storage.orm.marking import mark
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import Asking
from granite_storage.orm.registry import database_id, known_database_id, registry_of
from granite_storage.orm.sites import Site
from granite_storage.orm.triggers.standing import forget_standing

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.manager import StorageManager
    from granite_storage.orm.ledger import Ledger
    from granite_storage.refs import StoredObjectRef

__all__ = ["mark_undecided", "settle"]

_log = logging.getLogger("granite_storage")


def settle(ledger: Ledger) -> None:
    """The root transaction ended, and how is known: mark where it put objects, and delete what is nobody's now."""
    idle = [one for one in ledger.connections if not one.closed]  # and in no transaction
    asking = Asking(ledger.sources, ledger.written, idle)
    if ledger.committed:
        for manager, policy, site in ledger.sites:
            try:
                mark(manager, policy, site, partial(_own_id, site, idle))
            except ConfigurationError as error:  # a missing table: it says itself how to make it
                _log.warning("the prefix of policy %r could not be marked: %s", policy, error)
            except Exception:  # noqa: BLE001 - the user's commit is durable and must not seem to fail
                _log.warning("the prefix of policy %r could not be marked", policy, exc_info=True)
    managers = {change.manager for change in ledger.freed} | {change.manager for change in ledger.doomed}
    for manager in managers:
        try:
            _delete(manager, ledger, asking)
        except Exception:  # noqa: BLE001 - likewise
            _log.warning("objects that a transaction left over were not deleted; a sweep will", exc_info=True)


def _delete(manager: StorageManager, ledger: Ledger, asking: Asking) -> None:
    doomed = [change.ref for change in ledger.doomed if change.manager is manager]
    by_site: dict[Site, dict[str, StoredObjectRef]] = {}
    for change in ledger.freed:
        if change.manager is manager and not change.retained:
            by_site.setdefault(change.site, {})[change.ref.location] = change.ref
    by_trigger = {change.ref.location for change in ledger.freed if change.manager is manager and change.by_trigger}
    for site, freed in by_site.items():
        if outbox_of(site.metadata) is None:
            doomed += freed.values()
    for site, freed in by_site.items():
        if outbox_of(site.metadata) is not None:
            with site.desk(asking.idle) as desk:
                done = work_off(manager, site, desk, asking, locations=freed, doomed=doomed)
                written = {row.ref.location for row in done.rows if row.ref is not None}
                if not written.issuperset(by_trigger.intersection(freed)):  # somebody dropped them meanwhile, perhaps
                    forget_standing(desk.connection)
            doomed = []  # they went with the first
    discard(manager, doomed, asking)


def _own_id(site: Site, idle: list[Connection]) -> str | None:
    """The id of the database at a site, over a connection of our own; made if it has none."""
    registry = registry_of(site.metadata)
    if registry is None:
        return None
    with site.desk(idle) as desk:
        return database_id(desk.connection, registry)


def mark_undecided(ledger: Ledger) -> None:
    """An outer transaction still decides: mark where objects were put, before it can become durable unseen.

    The id is read in that transaction, since a connection of our own might have to wait for it. A database that has no
    id yet gets one from its first own commit or sweep.
    """
    for manager, policy, site in ledger.sites:
        try:
            mark(manager, policy, site, partial(_id_within, site, ledger.connections))
        except Exception:  # noqa: BLE001 - the transaction is somebody else's
            _log.warning("the prefix of policy %r could not be marked", policy, exc_info=True)


def _id_within(site: Site, connections: list[Connection]) -> str | None:
    """The id of the database at a site, as the transaction of one of these connections sees it."""
    registry = registry_of(site.metadata)
    if registry is None:
        return None
    for connection in connections:
        if not connection.closed and connection.in_transaction() and Site.of(connection, site.metadata) == site:
            with connection.begin_nested():  # a table that is missing must not end it
                return known_database_id(connection, registry)
    return None
