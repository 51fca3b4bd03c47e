"""The recent uploads of a policy, and which of them were left over by a transaction that never committed.

Only the folders of recent days are listed, so that what this costs follows the churn and not the size of the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from granite_storage.backends.base import Ability, has_ability
from granite_storage.locations import location_time, prefix_of
from granite_storage.maintenance.listing import iter_objects
from granite_storage.orm.greenlets import off_loop
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.base import StorageBackend
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy

__all__ = ["recent_uploads"]

_BATCH = 1000
_EPOCH = datetime.fromtimestamp(0, UTC)
_LONG = timedelta(days=31)  # many more days than there are objects may have to be listed otherwise


def recent_uploads(
    manager: StorageManager, policy: StoragePolicy, since: datetime, before: datetime
) -> Iterator[list[StoredObjectRef]]:
    """The uploads of a policy from the day of ``since`` on that are older than ``before``, in batches of 1 000.

    An object's age is the younger of what its location tells and what the store says.
    """
    backend = manager.get_backend_for_policy(policy)
    if before - since > _LONG and has_ability(backend, Ability.ORDERED_LISTING):
        since = max(since, off_loop(manager.pool, lambda: _first(backend, policy)))
    batch: list[StoredObjectRef] = []
    for day in _days(since.astimezone(UTC).date(), before.astimezone(UTC).date()):
        listing = iter_objects(backend, f"{policy.prefix}/{day.year:04}/{day.month:02}/{day.day:02}")
        while found := off_loop(manager.pool, lambda listing=listing: list(islice(listing, _BATCH))):  # type: ignore[misc]
            for one in found:
                made = location_time(one.location)
                if made is not None and prefix_of(one.location) == policy.prefix and max(made, one.modified) < before:
                    batch.append(StoredObjectRef(policy.storage_key, policy.backend_key, one.location, one.size, ""))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _first(backend: StorageBackend, policy: StoragePolicy) -> datetime:
    """The instant before which a policy has no upload."""
    for one in iter_objects(backend, policy.prefix):
        made = location_time(one.location)
        return made if made is not None and prefix_of(one.location) == policy.prefix else _EPOCH
    return datetime.now(UTC)


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)
