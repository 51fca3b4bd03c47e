"""A verification in parts, on any executor: of threads, processes, or machines.

A location lies in one part only, so that whatever rows and objects there are of it meet there. What lies below no
prefix is one more part of each backend.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from granite_storage.exceptions import StorageError
from granite_storage.maintenance.parallel import check_parts, do_parts
from granite_storage.maintenance.ranges import cut
from granite_storage.maintenance.verify.intervals import Interval
from granite_storage.maintenance.verify.report import FindingKind

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import datetime

    from granite_storage.maintenance.verify.orphans import Orphans
    from granite_storage.maintenance.verify.report import VerifyReport
    from granite_storage.maintenance.verify.run import VerifyRun
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy
    from granite_storage.verify import StorageVerifier

__all__ = ["VerifyInParts", "VerifyPart"]

MakeVerifier = Callable[[], "StorageVerifier"]


@dataclass(frozen=True, slots=True)
class VerifyPart:
    """What one piece of work compares: locations of one backend.

    :param intervals: one below a prefix, or those below none.
    :param own: whether the prefix is this manager's, so that its objects can be orphans.
    :param before: what was stored before this instant and nothing names is an orphan; None if nobody can tell.
    :param reports_unknown: the backend at which rows of a backend that nobody knows are reported.
    """

    backend_key: str
    intervals: tuple[Interval, ...]
    own: bool
    before: datetime | None
    reports_unknown: str


class VerifyInParts:
    """Compares all parts, each on the executor; then, for a repair and if the brake lets go, those with orphans again.

    :param parts: into how many ranges the locations below each prefix are cut.
    """

    def __init__(self, make: MakeVerifier, executor: Executor, parts: int) -> None:
        self._make, self._executor, self._parts = make, executor, check_parts(parts)
        self._with_orphans: list[VerifyPart] = []

    def compare(
        self,
        run: VerifyRun,
        intervals: Mapping[str, Sequence[Interval]],
        own: Collection[StoragePolicy],
        before: datetime | None,
    ) -> None:
        """Compare both sides of intervals, by backend."""

        def done(part: VerifyPart, report: VerifyReport) -> None:
            if report.counts[FindingKind.ORPHAN]:
                self._with_orphans.append(part)
            run.report.add(report)
            for finding in report.findings:
                run.found(finding)
            run.progress(run.report)

        first = next(iter(intervals), "")
        parts = [
            VerifyPart(key, several, _is_own(run.manager, several, own), before, first)
            for key, whole in intervals.items()
            for several in self._cut(run.manager, whole)
        ]
        do_parts(self._executor, partial(_verify_part, self._make, run.report.deep, False), parts, done)

    def hand_over(self, run: VerifyRun, orphans: Orphans) -> None:
        """Have the parts with orphans hand them to the outbox, if the brake lets go."""

        def done(part: VerifyPart, report: VerifyReport) -> None:
            run.report.repaired += report.repaired
            run.report.refuse(*report.refused)
            run.progress(run.report)

        if not orphans.may_go(run.report.counts[FindingKind.ORPHAN], force=run.force):
            return
        free = []
        for part in self._with_orphans:
            listed = part.intervals[0].listed
            if listed is not None and orphans.outbox_for(listed.policy_of(run.manager)) is not None:
                free.append(part)
        do_parts(self._executor, partial(_verify_part, self._make, False, True), free, done)

    def _cut(self, manager: StorageManager, intervals: Sequence[Interval]) -> Iterator[tuple[Interval, ...]]:
        """The intervals below a prefix, cut; and all others together."""
        others = []
        for one in intervals:
            if one.listed is None:
                others.append(one)
                continue
            try:
                ranges = cut(manager, one.listed.policy_of(manager), self._parts)
            except StorageError:  # the part that cannot list it says so
                ranges = [one.listed]
            for part in ranges:
                yield (Interval(part.start or one.after, part.until or one.upto, part),)
        if others:
            yield tuple(others)


def _is_own(manager: StorageManager, intervals: Sequence[Interval], own: Collection[StoragePolicy]) -> bool:
    listed = intervals[0].listed
    return listed is not None and listed.policy_of(manager) in own


def _verify_part(make: MakeVerifier, deep: bool, repair: bool, part: VerifyPart) -> VerifyReport:
    return make().verify_part(part, deep=deep, repair=repair)
