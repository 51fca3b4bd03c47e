"""Verification: compare all rows with all objects, both ways.

1. Refuse replicas: objects of rows that have not arrived there would seem to be nobody's.
2. Read what all rows say, in stretches by primary key, into a file on disk that is in the order of locations; where
   there is one backend and an index in that order, they are asked by and by instead (:mod:`.rows_within`).
3. List the policies' prefixes, former ones included, and put stretch by stretch beside what rows say
   (:mod:`.both_sides`, :mod:`.comparing`). Between the prefixes nothing is listed, and each object that a row names
   there is looked at.
4. With ``deep``, read each object that fits so far.
5. What does not fit is judged anew, store first and rows after (:mod:`.judging`), and only then reported.
6. Look through the outboxes for what rows contradict, and for what is gone (:mod:`.stale`).
7. With ``repair``, hand the orphans to the outbox, if the brake lets go (:mod:`.orphans`).

Nothing is held in memory but a stretch, and no transaction lasts longer than one. Without ``repair`` it changes
nothing; it may be cut off anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from granite_storage.declared import iter_declared
from granite_storage.maintenance.horizon import PreparedTransactionsError, earliest_now, horizon, refuse_replicas
from granite_storage.maintenance.own_prefixes import own_prefixes
from granite_storage.maintenance.places import FileColumnAt, file_columns_at, sources_at
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.maintenance.unreadable import UnreadableRef, undecodable_refs, unreadable_refs
from granite_storage.maintenance.verify.both_sides import BothSides
from granite_storage.maintenance.verify.intervals import Interval, intervals_of
from granite_storage.maintenance.verify.judging import Judge
from granite_storage.maintenance.verify.naming import Rows, RowSpool
from granite_storage.maintenance.verify.orphans import Orphans
from granite_storage.maintenance.verify.report import Finding, FindingKind, VerifyReport
from granite_storage.maintenance.verify.rows_within import RowsWithin
from granite_storage.maintenance.verify.stale import stale_rows
from granite_storage.orm.references import Asking

if TYPE_CHECKING:
    from granite_storage.maintenance.verify.parallel import VerifyInParts, VerifyPart
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["VerifyRun"]

_log = logging.getLogger("granite_storage")


class VerifyRun:
    """One verification.

    :param grace: what nothing names and is younger is no orphan.
    :param force: the explicit word that a repair needs where very much would go.
    :param progress: called with the report now and then.
    :param found: called with each finding.
    """

    def __init__(
        self,
        manager: StorageManager,
        sites: Collection[Site],
        *,
        grace: timedelta,
        deep: bool,
        repair: bool,
        force: bool,
        progress: Callable[[VerifyReport], object],
        found: Callable[[Finding], object],
    ) -> None:
        self.manager, self.sites = manager, sites
        self.grace, self.force, self.progress, self.found = grace, force, progress, found
        self.report = VerifyReport(deep=deep, repair=repair)
        self.asking = Asking(sources_at(sites))
        self.columns: list[FileColumnAt] = []

    def verify(
        self, policies: Collection[StoragePolicy], *, everything: bool, in_parts: VerifyInParts | None = None
    ) -> VerifyReport:
        """Do it.

        :param policies: whose prefixes are looked through.
        :param everything: whether what rows name elsewhere, and the outboxes, are looked at, too.
        :param in_parts: compares instead, and repairs.
        """
        manager, report = self.manager, self.report
        refuse_replicas(self.sites)
        self.columns = file_columns_at(self.sites)
        places = [place for policy in policies for place in policy.everywhere()]
        own, refused = own_prefixes(manager, self.sites, places, dry_run=not report.repair)
        report.refused += refused
        before = self._horizon()
        stopped = self._find_unreadable()
        keys = manager.one_name_each(manager.backends if everything else (place.backend_key for place in places))
        intervals = {
            key: [
                *intervals_of((one for one in places if manager.same_store(one.backend_key, key)), between=everything)
            ]
            for key in keys
        }
        with Orphans(manager, self.sites, self.asking, own, stopped, report) as orphans:
            if in_parts is not None:
                in_parts.compare(self, intervals, own, before)
            else:
                with self._rows(intervals) as said:
                    self._compare(intervals, said, orphans, before, next(iter(keys), ""))
            if everything:
                self.tell(stale_rows(manager, self.sites, self.asking, report))
            if report.repair and in_parts is not None:
                in_parts.hand_over(self, orphans)
            elif report.repair:
                orphans.hand_over(force=self.force)
        self.progress(report)
        _log.info("%s", report)
        return report

    def verify_part(self, part: VerifyPart) -> VerifyReport:
        """Compare one part; with ``repair``, hand its orphans over: the brake is somebody else's."""
        manager, report = self.manager, self.report
        self.columns = file_columns_at(self.sites)
        listed = next((one.listed for one in part.intervals if one.listed is not None), None)
        report.refused += unasked_fields(self.sites)  # where it works other models may be known
        own = [listed.policy_of(manager)] if listed is not None and part.own and not report.refused else []
        with (
            Orphans(manager, self.sites, self.asking, own, False, report) as orphans,
            RowsWithin(manager.pool, self.columns, part.intervals, checksums=report.deep) as said,
        ):
            said.read()
            self._compare({part.backend_key: part.intervals}, said, orphans, part.before, part.reports_unknown)
            if report.repair:
                orphans.write()
        return report

    @contextmanager
    def _rows(self, intervals: Mapping[str, Sequence[Interval]]) -> Iterator[Rows]:
        """What rows say of intervals, by backend; where these are several, each row would be asked for by each."""
        pool, deep = self.manager.pool, self.report.deep
        if len(intervals) == 1:
            (several,) = intervals.values()
            with RowsWithin(pool, self.columns, several, checksums=deep) as within:
                within.read()
                yield within
            return
        with RowSpool(pool, checksums=deep) as spool:
            for at in self.columns:
                spool.read(at)
            spool.order()
            yield spool

    def _compare(
        self,
        intervals: Mapping[str, Sequence[Interval]],
        said: Rows,
        orphans: Orphans,
        before: datetime | None,
        reports_unknown: str,
    ) -> None:
        """Compare both sides of intervals, by backend; what names other backends is told at one of them."""
        manager, report = self.manager, self.report
        judge = Judge(manager, self.sites, self.asking, self.columns, report, before, reports_unknown, self.tell)
        both = BothSides(manager, said, judge, orphans, report, self.progress)
        with LocationSpool() as declared:
            for iterate in manager.references:
                declared.add_named((ref.location, ref.backend) for ref in iter_declared(iterate))
            for key, several in intervals.items():
                for interval in several:
                    both.compare(key, interval, declared)

    def _horizon(self) -> datetime | None:
        """What was stored before this instant and nothing names is an orphan; None if nobody can tell."""
        try:
            return horizon(self.manager, self.sites, earliest_now(self.sites) - self.grace)
        except PreparedTransactionsError as waiting:
            self.report.refused.append(str(waiting))
            return None

    def _find_unreadable(self) -> bool:
        """Report rows that tell no location; gives whether there are some.

        With ``deep`` all others that are no refs, too; else only those that do not fit what is listed, where that is
        judged.
        """
        found = False
        for at, one in unreadable_refs(self.columns):
            found = True
            self._tell_unreadable(at, one)
        for at, one, backend, location in undecodable_refs(self.columns) if self.report.deep else ():
            self._tell_unreadable(at, one, backend, location)
        return found

    def _tell_unreadable(
        self, at: FileColumnAt, one: UnreadableRef, backend: str | None = None, location: str | None = None
    ) -> None:
        where = at.table, at.column.name, one.key
        self.tell([Finding(FindingKind.UNREADABLE, backend, location, *where, one.problem)])

    def tell(self, findings: Iterable[Finding]) -> None:
        """Take findings into the report, and hand them to the caller."""
        for one in findings:
            self.report.add_finding(one)
            self.found(one)
