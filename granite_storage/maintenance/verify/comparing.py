"""Comparing a stretch of what the store lists with what rows say of it: what fits needs no second look.

This runs for each object and each row, so that it is a few lists and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from granite_storage.backends.base import ObjectInfo
    from granite_storage.maintenance.verify.intervals import Stretch
    from granite_storage.manager import StorageManager

__all__ = ["BackendNames", "Compared", "compare"]

_first, _second, _third = map(itemgetter, range(3))


@dataclass(frozen=True, slots=True)
class BackendNames:
    """By what names refs call one backend.

    :param here: those that mean it and no other: the manager's, and 0.1.0's if one backend only has that.
    :param elsewhere: those that mean another.
    """

    here: frozenset[str]
    elsewhere: frozenset[str]

    @classmethod
    def of(cls, manager: StorageManager, key: str) -> BackendNames:
        """The names of the store of the manager's backend ``key``; any other name means nobody knows which."""
        kinds = Counter(backend.backend_name for backend in manager.backends.values())
        names: dict[bool, set[str]] = {True: set(), False: set()}
        for name, backend in manager.backends.items():
            here = manager.same_store(name, key)
            names[here].add(name)
            if kinds[backend.backend_name] == 1 and backend.backend_name not in manager.backends:
                names[here].add(backend.backend_name)
        return cls(frozenset(names[True]), frozenset(names[False]))


@dataclass(frozen=True, slots=True)
class Compared:
    """What a stretch is like.

    :param objects: how many there are.
    :param rows: how many rows name this backend.
    :param odd: the locations that need a second look.
    :param listed: the objects of the stretch by location; none where all fits.
    :param named: what rows say of this backend: location and size; none where all fits.
    """

    objects: int
    rows: int
    odd: set[str] = field(default_factory=set)
    listed: Mapping[str, ObjectInfo] = field(default_factory=dict)
    named: Mapping[str, Any] = field(default_factory=dict)


def compare(stretch: Stretch, names: BackendNames, *, sized: bool) -> Compared:
    """Compare both sides of a stretch.

    :param sized: whether the listing tells sizes.
    """
    if sized and not stretch.odd and _fits(stretch, names.here):
        return Compared(len(stretch.listed), len(stretch.said))
    here = names.here
    listed = {one.location: one for one in stretch.listed}
    named = {location: size for location, size, backend, _ in stretch.said if backend in here}
    odd = set(stretch.odd)
    rows = len(stretch.said)
    if len(named) != rows:
        rows = 0
        met: set[str] = set()
        for location, _, backend, _ in stretch.said:
            if backend in here:
                rows += 1
                if location in met:
                    odd.add(location)
                met.add(location)
            elif backend not in names.elsewhere:
                odd.add(location)
    if sized:
        sizes = {one.location: one.size for one in stretch.listed}
        if sizes != named:
            odd.update(location for location, _ in sizes.items() ^ named.items())
    else:
        odd |= listed.keys() ^ named.keys()
    return Compared(len(listed), rows, odd, listed, named)


def _fits(stretch: Stretch, here: frozenset[str]) -> bool:
    """Whether there is one row for each object, and nothing else."""
    listed, said = stretch.listed, stretch.said
    locations = [*map(_first, listed)]
    return (
        locations == [*map(_first, said)]
        and [*map(_second, listed)] == [*map(_second, said)]
        and here.issuperset(map(_third, said))
        and len(set(locations)) == len(locations)
    )
