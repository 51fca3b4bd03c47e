"""Which objects are nobody's, asked right before they are deleted; and deleting them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granite_storage.declared import IterReferences
from granite_storage.deletion import delete_objects
from granite_storage.exceptions import StorageError
from granite_storage.locations import prefix_of
from granite_storage.maintenance.listing import stored_at
from granite_storage.maintenance.places import with_outbox
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.outbox import awaited, outbox_of
from granite_storage.orm.references import Asking, Identity, Wanted, declared_among, named
from granite_storage.resolve import resolve_backend_key

if TYPE_CHECKING:
    from datetime import datetime

    from granite_storage.backends.base import DeleteFailure, ObjectInfo
    from granite_storage.maintenance.garbage.report import GarbageReport
    from granite_storage.maintenance.verify.report import VerifyReport
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.refs import StoredObjectRef

__all__ = ["LeftOver", "delete_left_over", "left_over", "may_go"]


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What is known of some objects.

    :param orphans: those that nothing names.
    :param named: how many a row names.
    :param awaiting: how many no row names and an outbox has: they may be retained, and go when they are due.
    """

    orphans: list[StoredObjectRef]
    named: int
    awaiting: int


def left_over(
    manager: StorageManager,
    sites: Iterable[Site],
    refs: Iterable[StoredObjectRef],
    asking: Asking,
    declared: Iterable[IterReferences] = (),
) -> LeftOver:
    """Ask every row, every declared reference and every outbox for objects.

    :param declared: besides those that the manager was told of.
    :raises SQLAlchemyError: if a database does not answer; then nothing may be deleted.
    :raises StorageError: if a declared reference is none; likewise.
    """
    by_object: dict[Identity, StoredObjectRef] = {manager.identity(ref): ref for ref in refs}
    asked = len(by_object)
    for identity in named(manager, by_object, asking):
        del by_object[identity]
    for identity in declared_among(manager, by_object, (*manager.references, *declared)):
        del by_object[identity]
    unnamed = len(by_object)
    for site in with_outbox(sites) if by_object else ():  # after the rows: what leaves a row stands there at once
        for identity in _awaited(manager, site, Wanted(manager, by_object)):
            by_object.pop(identity, None)
    return LeftOver(list(by_object.values()), asked - unnamed, unnamed - len(by_object))


def _awaited(manager: StorageManager, site: Site, wanted: Wanted) -> set[Identity]:
    """Those of some objects that an outbox has."""
    outbox = outbox_of(site.metadata)
    assert outbox is not None
    found: set[Identity] = set()
    with site.desk() as desk:
        for policy, backend, location in awaited(desk.connection, outbox, {location for _, location in wanted}):
            try:
                key = resolve_backend_key(backend, policy, manager.backends, manager.policies)
            except StorageError:  # it may be at any
                found.update(one for one in wanted if one[1] == location)
            else:
                found.update({*manager.identities((manager.one_name_each([key])[0], location))} & wanted)
    return wanted.of(found)


def may_go(
    orphan: ObjectInfo, prefix: str, before: datetime | None, report: GarbageReport | VerifyReport, *, declared: bool
) -> bool:
    """Whether an orphan may be deleted, as far as it tells; the report counts it if not.

    One of our own layout below a folder of the prefix is that of somebody who has that folder for a prefix.

    :param prefix: that of the policy below which it was found.
    :param before: what was stored before this instant is old enough; None if nothing is.
    :param declared: whether anybody said what names the objects that are not at locations of this project's making.
    """
    stored, made_below = stored_at(orphan), prefix_of(orphan.location)
    if made_below != prefix and not (declared and made_below is None):
        report.undeclared += 1
    elif stored is None or before is None or stored >= before:
        report.young += 1
    else:
        return True
    return False


def delete_left_over(
    manager: StorageManager,
    sites: Collection[Site],
    refs: Iterable[StoredObjectRef],
    asking: Asking,
    declared: Iterable[IterReferences] = (),
) -> tuple[list[StoredObjectRef], list[DeleteFailure]]:
    """Ask again, and delete those that are still nobody's; gives what is gone, and what could not be deleted."""
    sure = left_over(manager, sites, refs, asking, declared).orphans
    if not sure:
        return [], []
    failures = off_loop(manager.pool, lambda: delete_objects(manager, sure))
    kept = {manager.identity(failure.ref) for failure in failures}
    return [ref for ref in sure if manager.identity(ref) not in kept], failures
