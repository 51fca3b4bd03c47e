"""Listing any backend: one that tells size and time of its objects, and one of 0.1.0's protocol, which does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, ObjectInfo, OrderedListingBackend, has_ability
from granite_storage.locations import location_time

if TYPE_CHECKING:
    from granite_storage.backends.base import StorageBackend

__all__ = ["iter_objects", "stored_at"]

_EPOCH = datetime.fromtimestamp(0, UTC)


def iter_objects(backend: StorageBackend, folder: str, start_after: str | None = None) -> Iterator[ObjectInfo]:
    """The objects in a folder, in byte order where the backend lists in order.

    Where it tells neither size nor time these are 0 and the epoch; :func:`stored_at` knows that.

    :param start_after: what is not behind this location is left out.
    """
    if has_ability(backend, Ability.ORDERED_LISTING):
        return cast("OrderedListingBackend", backend).iter_objects(folder, start_after=start_after)
    return (
        ObjectInfo(location, 0, _EPOCH)
        for location in backend.iter_locations(folder)
        if start_after is None or location > start_after
    )


def stored_at(info: ObjectInfo) -> datetime | None:
    """When an object was stored: the later of what its location and what the store tell; None if neither does.

    >>> stored_at(ObjectInfo("document/42-deadbeef.pdf", 0, datetime.fromtimestamp(0, UTC))) is None
    True
    """
    stored = max(info.modified, location_time(info.location) or _EPOCH)
    return None if stored == _EPOCH else stored
