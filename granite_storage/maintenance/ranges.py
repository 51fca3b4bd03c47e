"""Ranges of locations: how work over a whole store is cut up for several workers, each part independent of the others.

New locations are in the order of time, so that instants spread over the time since the first upload cut a prefix
without listing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING

from granite_storage.backends.base import Ability, ObjectInfo, has_ability
from granite_storage.exceptions import StorageError
from granite_storage.locations import location_since, location_time
from granite_storage.maintenance.listing import iter_objects
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy

__all__ = ["STRETCH", "LocationRange", "cut", "stretches_of", "whole"]

STRETCH = 10_000
"""How many objects are listed before they are put beside what rows say, if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class LocationRange:
    """Locations below a policy's prefix, behind ``start`` (if given) up to ``until`` (if given), in byte order.

    :param storage_key: the policy's name.
    :param prefix: one of its prefixes, present or former.
    """

    storage_key: str
    prefix: str
    start: str | None = None
    until: str | None = None

    def policy_of(self, manager: StorageManager) -> StoragePolicy:
        """The policy, as it is or was under that prefix.

        :raises StorageError: if the manager has no such policy, as where a worker is configured otherwise.
        """
        for policy in manager.get_policy(self.storage_key).everywhere():
            if policy.prefix == self.prefix:
                return policy
        raise StorageError(f"policy {self.storage_key!r} neither has nor had the prefix {self.prefix!r}")


def whole(policy: StoragePolicy) -> LocationRange:
    """All locations below a policy's prefix."""
    return LocationRange(policy.storage_key, policy.prefix)


def cut(manager: StorageManager, policy: StoragePolicy, parts: int) -> list[LocationRange]:
    """All locations below a policy's prefix in at most ``parts`` ranges; in one if its backend lists in no order."""
    backend = manager.get_backend_for_policy(policy)
    if not has_ability(backend, Ability.ORDERED_LISTING):
        return [whole(policy)]
    first = next(iter_objects(backend, policy.prefix), None)
    since = None if first is None else location_time(first.location)
    if since is None:
        return [whole(policy)]
    step = (datetime.now(UTC) - since) / parts
    ends = [None, *dict.fromkeys(location_since(policy.prefix, since + n * step) for n in range(1, parts)), None]
    return [LocationRange(policy.storage_key, policy.prefix, start, until) for start, until in pairwise(ends)]


def stretches_of(manager: StorageManager, part: LocationRange, size: int | None = None) -> Iterator[list[ObjectInfo]]:
    """What a range has, in byte order, a list of at most ``size`` objects at once (:data:`STRETCH`).

    What its backend lists in no order is put in order on disk first.

    :raises StorageError: if it cannot be listed to its end.
    """
    backend = manager.get_backend_for_policy(manager.get_policy(part.storage_key))
    with ExitStack() as stack:
        listing = iter_objects(backend, part.prefix, part.start)
        if not has_ability(backend, Ability.ORDERED_LISTING):
            spool, listed = stack.enter_context(LocationSpool()), listing
            off_loop(manager.pool, lambda: spool.add(listed))
            listing = iter(spool)
        until = part.until
        if until is not None:
            listing = takewhile(lambda one: one.location <= until, listing)
        while stretch := off_loop(manager.pool, lambda: list(islice(listing, size or STRETCH))):
            yield stretch
