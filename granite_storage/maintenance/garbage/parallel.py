"""A garbage collection in parts, on any executor: of threads, processes, or machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from granite_storage.declared import iter_declared
from granite_storage.maintenance.parallel import check_parts, do_parts
from granite_storage.maintenance.ranges import LocationRange, cut

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import timedelta

    from granite_storage.gc import StorageGarbageCollector
    from granite_storage.maintenance.garbage.collect import GarbageRun
    from granite_storage.maintenance.garbage.report import GarbageReport

__all__ = ["CollectInParts"]

MakeCollector = Callable[[], "StorageGarbageCollector"]


class CollectInParts:
    """Looks at all parts first, each on the executor; then, if the brake lets go, deletes in those that have orphans.

    :param parts: into how many ranges the locations below each prefix are cut.
    """

    def __init__(self, make: MakeCollector, executor: Executor, parts: int) -> None:
        self._make, self._executor, self._parts = make, executor, check_parts(parts)

    def __call__(self, run: GarbageRun) -> None:
        ranges = [part for policy in run.policies for part in cut(run.manager, policy, self._parts)]
        found = self._all(run, ranges, dry_run=True)
        declared = (*run.manager.references, *run.declared)
        if not run.may_delete(named_elsewhere=any(next(iter_declared(one), None) is not None for one in declared)):
            return
        with_orphans = [
            (part, report.deletable) for part, report in zip(ranges, found, strict=True) if report.deletable
        ]
        if not run.report.unreadable:
            self._all(run, [part for part, _ in with_orphans], dry_run=False)
            return
        kept = Counter[str]()
        for part, count in with_orphans:
            kept[part.storage_key] += count
        run.tell_kept(kept)

    def _all(self, run: GarbageRun, ranges: Iterable[LocationRange], *, dry_run: bool) -> list[GarbageReport]:
        reports = []

        def done(part: LocationRange, report: GarbageReport) -> None:
            reports.append(report)
            if dry_run:
                run.report.add(report)
            else:
                run.report.deleted += report.deleted
                run.report.deleted_bytes += report.deleted_bytes
                run.report.failed += report.failed
                run.report.refuse(*report.refused)
            run.progress(run.report)

        do_parts(self._executor, partial(_collect_part, self._make, run.grace, dry_run), ranges, done)
        return reports


def _collect_part(make: MakeCollector, grace: timedelta, dry_run: bool, part: LocationRange) -> GarbageReport:
    return make().collect_part(part, grace=grace, dry_run=dry_run)
