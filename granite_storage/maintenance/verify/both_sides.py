"""Going through both sides at once: what the store lists, and what rows say of it, a stretch at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from granite_storage.backends.base import Ability, ObjectInfo, has_ability
from granite_storage.batching import batched
from granite_storage.exceptions import InvalidRefError, StorageError
from granite_storage.maintenance.ranges import stretches_of
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.maintenance.verify.comparing import BackendNames, Compared, compare
from granite_storage.maintenance.verify.intervals import Interval, Stretch, stretches
from granite_storage.maintenance.verify.looking import read_through
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.maintenance.verify.judging import Judge
    from granite_storage.maintenance.verify.naming import Rows
    from granite_storage.maintenance.verify.orphans import Orphans
    from granite_storage.maintenance.verify.report import VerifyReport
    from granite_storage.manager import StorageManager

__all__ = ["STRETCH", "BothSides"]

STRETCH = 2_000
"""How many objects are put beside what rows say at once: few, so that Python's collector meets few of them."""

_BATCH = 1000


class _UnlistedError(Exception):
    """The store could not be listed."""


class BothSides:
    """The store and the rows.

    :param said: what the rows say.
    :param judge: judges what does not fit.
    :param orphans: takes what nobody names.
    :param report: is written on.
    :param progress: called with it after each stretch.
    """

    def __init__(
        self,
        manager: StorageManager,
        said: Rows,
        judge: Judge,
        orphans: Orphans,
        report: VerifyReport,
        progress: Callable[[VerifyReport], object],
    ) -> None:
        self._manager, self._said, self._judge, self._orphans = manager, said, judge, orphans
        self._report, self._progress = report, progress

    def compare(self, key: str, interval: Interval, declared: LocationSpool) -> None:
        """Compare both sides of an interval of a backend.

        :param declared: what declared references name.
        """
        said, orphans = self._said, self._orphans
        backend = self._manager.backends[key]
        names = BackendNames.of(self._manager, key)
        sized = has_ability(backend, Ability.ORDERED_LISTING)
        one_by_one = not sized and has_ability(backend, Ability.STAT)
        policy = None if interval.listed is None else interval.listed.policy_of(self._manager)
        if policy not in orphans.policies:
            policy = None
        try:
            for stretch in stretches(interval, self._listing(interval), STRETCH, said.page):
                found = compare(stretch, names, sized=sized)
                rows = said.count(stretch.after, max(stretch.odd), names.here) if stretch.odd else found.rows
                self._report.rows += rows
                self._report.objects += found.objects
                odd = found.odd - _declared(found, declared, names)
                if one_by_one:
                    odd |= found.named.keys()
                if self._report.deep:
                    odd |= self._read(key, stretch, names, odd)
                if odd:
                    listed = found.listed or {one.location: one for one in stretch.listed}
                    for batch in batched(sorted(odd), _BATCH):
                        orphans.add(policy, self._judge.judge(key, batch, listed, policy, sized=sized))
                self._progress(self._report)
        except _UnlistedError as error:
            self._report.refused.append(str(error))

    def _listing(self, interval: Interval) -> Iterator[Sequence[ObjectInfo]]:
        """What the store has in an interval, in byte order."""
        if interval.listed is None:
            return
        try:
            yield from stretches_of(self._manager, interval.listed, STRETCH)
        except StorageError as error:
            raise _UnlistedError(
                f"prefix {interval.listed.prefix!r} of policy {interval.listed.storage_key!r}: it could not be listed "
                f"to its end, and what was not listed is not verified: {error}"
            ) from error

    def _read(self, key: str, stretch: Stretch, names: BackendNames, odd: Collection[str]) -> set[str]:
        """Read the objects of a stretch that are not odd yet; gives the locations of those that are not whole."""
        wrong: set[str] = set()
        refs = []
        for location, told, name, checksum in stretch.said:
            if name in names.here and location not in odd:
                try:
                    refs.append(StoredObjectRef("", key, location, told, checksum or ""))
                except InvalidRefError:  # the judge says what is wrong with it
                    wrong.add(location)
        for batch in batched(refs, _BATCH):
            problems, size = read_through(self._manager, batch)
            wrong |= {ref.location for ref, problem in zip(batch, problems, strict=True) if problem is not None}
            self._report.bytes_read += size
            self._progress(self._report)
        return wrong


def _declared(found: Compared, declared: LocationSpool, names: BackendNames) -> set[str]:
    """The objects of a stretch that only a declared reference names: nothing is odd about them."""
    unnamed = found.listed.keys() - found.named.keys()
    if not unnamed or not len(declared):
        return set()
    return {name for (name,) in declared.within(min(unnamed), max(unnamed), without=names.elsewhere) if name in unnamed}
