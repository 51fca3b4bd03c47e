"""Garbage collection: compare the whole store with the whole database, and delete what nobody names.

1. Refuse replicas, databases with file fields that are not asked, and prefixes that bear the mark of another owner or
   of a database that is not asked.
2. Look for rows that name nobody knows what: they stop deletion.
3. List the policies' prefixes, former ones included, stretch by stretch; ask after each which of it is named.
4. What is not is asked again, object by object; what is still nobody's is an orphan.
5. Only then, if the brake lets go: ask once more, right before, and delete what is older than the grace period.
6. Leftovers of unfinished uploads, and empty day folders.

Nothing is held in memory but a stretch: candidates and orphans are on disk. No transaction lasts longer than a
stretch is asked about. It may be cut off anywhere, and run beside uploads, sweeps and other collections.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING

from granite_storage.backends.base import ObjectInfo
from granite_storage.events import StorageEvent
from granite_storage.maintenance.brake import Brake, any_reference
from granite_storage.maintenance.garbage.references import References
from granite_storage.maintenance.garbage.report import GarbageReport
from granite_storage.maintenance.horizon import PreparedTransactionsError, earliest_now, horizon, refuse_replicas
from granite_storage.maintenance.left_over import delete_left_over, left_over, may_go
from granite_storage.maintenance.leftovers import remove_leftovers
from granite_storage.maintenance.listing import stored_at
from granite_storage.maintenance.own_prefixes import folders_inside, own_prefixes
from granite_storage.maintenance.places import file_columns_at, sources_at
from granite_storage.maintenance.ranges import LocationRange, stretches_of, whole
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.maintenance.unreadable import unreadable_refs
from granite_storage.orm.references import Asking
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.declared import IterReferences
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["GarbageRun"]

_BATCH = 1000
_TOLD = 100
_log = logging.getLogger("granite_storage")


class GarbageRun:
    """One collection: what it may touch, and how far it got.

    :param sites: the databases that are asked.
    :param declared: what else names objects, besides what the manager was told of.
    :param grace: younger orphans stay.
    :param progress: called with the report now and then.
    """

    def __init__(
        self,
        manager: StorageManager,
        sites: Collection[Site],
        declared: Sequence[IterReferences],
        *,
        grace: timedelta,
        dry_run: bool,
        force: bool,
        progress: Callable[[GarbageReport], object],
    ) -> None:
        self.manager, self.sites, self.declared = manager, sites, declared
        self.grace, self.force, self.progress = grace, force, progress
        self.report = GarbageReport(dry_run=dry_run)
        self.asking = Asking(sources_at(sites))
        self.policies: list[StoragePolicy] = []

    def collect(
        self, policies: Iterable[StoragePolicy], in_parts: Callable[[GarbageRun], None] | None = None
    ) -> GarbageReport:
        """Do it.

        :param in_parts: looks and deletes instead.
        """
        manager, report, began = self.manager, self.report, perf_counter()
        refuse_replicas(self.sites)
        everywhere = [place for policy in policies for place in policy.everywhere()]
        self.policies, refused = own_prefixes(manager, self.sites, everywhere, dry_run=report.dry_run)
        report.refused += refused
        with closing(unreadable_refs(file_columns_at(self.sites))) as unreadable:  # its transaction ends here
            report.unreadable = tuple(one for _, one in islice(unreadable, _TOLD))
        if in_parts is None:
            self._look_and_delete([whole(policy) for policy in self.policies])
        else:
            in_parts(self)
        before = earliest_now(self.sites) - self.grace
        report.leftovers, failed = remove_leftovers(manager, self.policies, before, dry_run=report.dry_run)
        report.failed += failed
        self.progress(report)
        if not report.dry_run:
            seconds = perf_counter() - began
            event = StorageEvent("collected", "", bytes=report.deleted_bytes, objects=report.deleted, seconds=seconds)
            manager.events.tell(event, str(report))
        return report

    def collect_part(self, part: LocationRange) -> GarbageReport:
        """Look at one range of locations, and delete what is to be deleted of it; the brake is somebody else's."""
        self.policies = [part.policy_of(self.manager)]
        self.report.refused += unasked_fields(self.sites)  # where it works other models may be known
        if not self.report.refused:
            self._look_and_delete([part], asked=True)
        return self.report

    def may_delete(self, *, named_elsewhere: bool = False) -> bool:
        """Whether the orphans that were counted may be deleted; the report says why if not."""
        report = self.report
        brake = Brake(self.force, "objects", "collect(force=True)", report.scanned, report.deletable)
        if brake.pulled:
            report.refused.append(brake.reason)
            return False
        nothing = report.deletable and not (report.referenced or named_elsewhere or self.force)
        if nothing and not any_reference(self.sites):
            report.refused.append(brake.no_reference)
            return False
        return not report.dry_run

    def _look_and_delete(self, parts: Sequence[LocationRange], *, asked: bool = False) -> None:
        """Look at ranges, and delete what is to be deleted of them.

        :param parts: the range of each of the policies.
        :param asked: whether somebody else has decided that orphans may be deleted.
        """
        with ExitStack() as stack:
            names, candidates, doomed = (stack.enter_context(LocationSpool()) for _ in range(3))
            declared = [*self.manager.references, *self.declared]
            references = References(self.manager, self.sites, declared, names)
            self._scan(parts, references, candidates)
            self._judge(candidates, doomed, self._horizon())
            may = not self.report.dry_run if asked else self.may_delete(named_elsewhere=len(names) > 0)
            if may:
                self._delete(doomed)

    def _horizon(self) -> datetime | None:
        """What was stored before this instant may go; None if nothing may."""
        try:
            return horizon(self.manager, self.sites, earliest_now(self.sites) - self.grace)
        except PreparedTransactionsError as waiting:
            self.report.refused.append(str(waiting))
            return None

    def _scan(self, parts: Sequence[LocationRange], references: References, candidates: LocationSpool) -> None:
        for number, (policy, part) in enumerate(zip(self.policies, parts, strict=True)):
            inner = folders_inside(self.manager, policy)
            for listed in stretches_of(self.manager, part):
                stretch = [one for one in listed if not one.location.startswith(inner)] if inner else listed
                locations = [one.location for one in stretch]
                left = references.unnamed(policy.backend_key, locations)
                self.report.scanned += len(stretch)
                self.report.referenced += len(stretch) - len(left)
                if left:
                    candidates.add([one for one in stretch if (one.location,) in left], number)
                self.progress(self.report)

    def _judge(self, candidates: LocationSpool, doomed: LocationSpool, before: datetime | None) -> None:
        """Count the orphans, and write down those that are old enough."""
        report = self.report
        declared = bool(self.declared or self.manager.references)
        for number, batch in candidates.batches(self._at_once):
            refs = {self._ref(number, one): one for one in batch}
            found = left_over(self.manager, self.sites, refs, self.asking, self.declared)
            report.referenced += found.named
            report.awaiting += found.awaiting
            old = []
            for one in (refs[ref] for ref in found.orphans):
                stored = stored_at(one)
                report.orphaned += 1
                report.orphaned_bytes += one.size
                if stored is not None:
                    report.oldest = min(stored, report.oldest or stored)
                if may_go(one, self.policies[number].prefix, before, report, declared=declared):
                    old.append(one)
            doomed.add(old, number)
            self.progress(report)

    def _delete(self, doomed: LocationSpool) -> None:
        kept = Counter[str]()
        for number, batch in doomed.batches(self._at_once):
            policy = self.policies[number]
            if self.report.unreadable:
                kept[policy.storage_key] += len(batch)
                continue
            refs = [self._ref(number, one) for one in batch]
            gone, failures = delete_left_over(self.manager, self.sites, refs, self.asking, self.declared)
            self.report.deleted += len(gone)
            self.report.deleted_bytes += sum(ref.size for ref in gone)
            self.report.failed += len(failures)
            self.progress(self.report)
        self.tell_kept(kept)

    def tell_kept(self, kept: Mapping[str, int]) -> None:
        """Say how many orphans of which policy stay because of rows that cannot be read."""
        columns = ", ".join(dict.fromkeys(one.column for one in self.report.unreadable))
        for policy, count in kept.items():
            self.report.refused.append(
                f"policy {policy!r}: {count} orphans stay, since rows of {columns} name nobody knows what, perhaps one "
                "of them; the report's `unreadable` lists the rows: mend or convert them"
            )

    def _ref(self, number: int, one: ObjectInfo) -> StoredObjectRef:
        policy = self.policies[number]
        return StoredObjectRef(policy.storage_key, policy.backend_key, one.location, one.size, "")

    @property
    def _at_once(self) -> int:
        """How many objects are asked about at once: more, where each time asks for all declared references."""
        return 10 * _BATCH if self.declared or self.manager.references else _BATCH
