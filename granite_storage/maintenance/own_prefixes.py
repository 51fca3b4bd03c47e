"""The prefixes at which a manager may delete by listing: its own, and of no database that is not asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from granite_storage.exceptions import OwnershipError
from granite_storage.maintenance.places import database_ids
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["folders_inside", "own_prefixes"]


def own_prefixes(
    manager: StorageManager, sites: Collection[Site], policies: Iterable[StoragePolicy], *, dry_run: bool
) -> tuple[list[StoragePolicy], list[str]]:
    """Those of ``policies`` whose prefixes bear no mark of another owner, nor of a database that is not asked.

    None of them if a database has file fields that are not asked.

    :param dry_run: if so, nothing is marked.
    :returns: the policies whose prefixes may be looked through, and why others may not.
    """
    ids = set(database_ids(sites, make=not dry_run).values())
    own: list[StoragePolicy] = []
    refused = [*unasked_fields(sites)]
    for policy in () if refused else policies:
        backend = manager.get_backend_for_policy(policy)
        try:
            off_loop(manager.pool, lambda: manager.ownership.check(backend, policy, mark=not dry_run))  # noqa: B023
        except OwnershipError as error:
            refused.append(str(error))
            continue
        others = off_loop(manager.pool, lambda: manager.ownership.databases(backend, policy.prefix)) - ids  # noqa: B023
        if others:
            refused.append(
                f"prefix {policy.prefix!r} of policy {policy.storage_key!r} bears the mark of {len(others)} other "
                f"database{'s' * (len(others) > 1)} ({', '.join(sorted(others)[:3])}), whose rows may name objects "
                "there; give each database a key_prefix of its own, ask with the engines of all of them, or, if "
                "those are gone, manager.take_ownership(engine)"
            )
            continue
        own.append(policy)
    return own, refused


def folders_inside(manager: StorageManager, policy: StoragePolicy) -> tuple[str, ...]:
    """The folders below a policy's prefix that are other prefixes; what is there is looked at with those.

    Only a manager that is attached to no models lets prefixes nest.
    """
    return tuple(
        f"{place.prefix}/"
        for other in manager.policies.values()
        for place in other.everywhere()
        if place.prefix.startswith(f"{policy.prefix}/") and manager.same_store(place.backend_key, policy.backend_key)
    )
