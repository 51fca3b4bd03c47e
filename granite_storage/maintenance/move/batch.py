"""One batch of a move: its objects are copied side by side, its rows switched, and what they named is deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from granite_storage.deletion import told
from granite_storage.events import StorageEvent, failed_event
from granite_storage.exceptions import BackendError, StorageError
from granite_storage.maintenance.move.copying import Copier
from granite_storage.maintenance.move.fitting import refused_by_validators
from granite_storage.maintenance.move.report import MoveFinding
from granite_storage.maintenance.move.switch import Copy, Switched, switch
from granite_storage.maintenance.places import sources_at
from granite_storage.maintenance.row_locks import LOCKED, try_until_free
from granite_storage.observing import StorageChange, tell
from granite_storage.orm.discarding import discard, work_off
from granite_storage.orm.greenlets import run_side_by_side
from granite_storage.orm.ledger import OF_GRACE, is_too_old
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.pending import put_groups
from granite_storage.orm.references import Asking, declared_among
from granite_storage.orm.refusals import lacks_right

if TYPE_CHECKING:
    from granite_storage.maintenance.move.report import MoveReport
    from granite_storage.maintenance.move.rows import Place, Row
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["BatchMove"]

_Problem = tuple["Row", Exception, StorageEvent]
"""A row whose file could not be copied, why, and the event to tell unless the row has changed."""


class BatchMove:
    """Moves batches, and counts what became of them in a report.

    :param sites: the databases that are asked whether a row names an object.
    :param limits: whether the target policy's validators are asked.
    """

    def __init__(
        self,
        manager: StorageManager,
        sites: Collection[Site],
        target: StoragePolicy,
        report: MoveReport,
        *,
        limits: bool,
        reread: bool,
    ) -> None:
        self._manager, self._target, self._report, self._limits = manager, target, report, limits
        self._asking = Asking(sources_at(sites))
        self._copier = Copier(manager, target, reread=reread)
        self.failures = 0
        """How many files a store would not copy, or the role may not switch, since the last that was moved."""

    def move(self, place: Place, rows: list[Row]) -> list[Row]:
        """Copy files and switch their rows; gives the rows that have changed meanwhile, or whose copy grew too old."""
        manager = self._manager
        ours: list[Copy] = []
        problems: list[_Problem] = []
        misfits: list[tuple[Row, str]] = []
        try:
            with put_groups(manager, {self._target.storage_key}):
                run_side_by_side(manager.pool, [partial(self._copy, row, ours, problems, misfits) for row in rows])
            order = {id(row): number for number, row in enumerate(rows)}  # that of the primary key
            young, old = self._by_age(sorted(ours, key=lambda copy: order[id(copy.row)]))
            done = self._switch(place, young, ours)
        except BaseException:
            with suppress(Exception):  # whatever stopped this is told; a sweep finds what was copied
                self._discard(ours)
            raise
        self._discard(ours)
        for row, problem in misfits:
            self._report.add_skipped(MoveFinding(place.name, row.key, problem))
        for copy in old:
            problem = f"copying took over {OF_GRACE} of the grace period of {manager.grace}; raise it"
            self._failed(place, copy.row, problem)
        for copy in done.busy:
            self._failed(place, copy.row, LOCKED)
        for copy, error in done.refused:
            self.failures += lacks_right(error)
            self._failed(place, copy.row, f"the database refused to change the row: {type(error.orig).__name__}")
        return [copy.row for copy in (*done.lost, *done.expired)] + self._changed(place, problems)

    def _copy(
        self,
        row: Row,
        ours: list[Copy],
        problems: list[_Problem],
        misfits: list[tuple[Row, str]],
    ) -> None:
        assert row.ref is not None
        began = perf_counter()
        try:
            problem = refused_by_validators(self._manager, row.ref, self._target) if self._limits else None
            if problem is not None:
                misfits.append((row, problem))
            else:
                copied, on_server = self._copier.copy(row.ref)
                ours.append(Copy(row, row.ref, copied, on_server, perf_counter() - began))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the row
            problems.append((row, error, failed_event("move", row.ref.storage_key, row.ref.backend, error, began)))

    def _by_age(self, copies: Iterable[Copy]) -> tuple[list[Copy], list[Copy]]:
        """Those that may be committed, and those that a sweep may take for left over before they are."""
        ages: tuple[list[Copy], list[Copy]] = ([], [])
        for copy in copies:
            ages[is_too_old(self._manager, copy.new.location)].append(copy)
        return ages

    def _switch(self, place: Place, copies: Sequence[Copy], ours: list[Copy]) -> Switched:
        """Switch the rows; those that others hold locked several times. What was freed is deleted after each commit."""
        done = Switched()

        def attempt(waiting: Sequence[Copy]) -> Sequence[Copy]:
            some = switch(self._manager, place, waiting, ours)
            self._moved(place, some.won)
            busy, some.busy = some.busy, []
            done.add(some)
            return busy

        done.busy = list(try_until_free(self._manager.pool, copies, attempt))
        return done

    def _moved(self, place: Place, copies: Sequence[Copy]) -> None:
        """It is durable: count, tell, and delete what the rows named."""
        if not copies:
            return
        manager, report = self._manager, self._report
        self.failures = 0
        report.moved += len(copies)
        report.moved_bytes += sum(copy.new.size for copy in copies)
        report.on_server += sum(copy.on_server for copy in copies)
        old, stored = [copy.old for copy in copies], tuple(copy.new for copy in copies)
        for copy, new in zip(copies, stored, strict=True) if manager.events.wanted else ():
            manager.events.tell(
                StorageEvent("moved", new.storage_key, new.backend, new.location, new.size, copy.seconds)
            )
        if manager.observers:
            tell(manager.observers, StorageChange(stored=stored, freed=tuple(old)))
        kept = declared_among(manager, set(map(manager.identity, old)), manager.references)
        asking = self._asking.keeping(kept)
        if outbox_of(place.site.metadata) is None:
            report.deleted += len(discard(manager, old, asking).deleted)
            return
        with place.site.desk() as desk:
            locations = {ref.location for ref in old}
            report.deleted += len(work_off(manager, place.site, desk, asking, locations=locations).deleted)

    def _discard(self, copies: Sequence[Copy]) -> None:
        """Delete copies that no row names."""
        if copies:
            discard(self._manager, [copy.new for copy in copies], self._asking)

    def _changed(self, place: Place, problems: Sequence[_Problem]) -> list[Row]:
        """The rows among those whose file could not be copied that hold something else by now; the others failed."""
        if not problems:
            return []
        with place.site.desk() as desk:
            now = place.read(desk.connection, [row.key for row, _, _ in problems])
        changed = []
        for row, error, event in problems:
            if row.key in now and now[row.key].text == row.text:
                self._manager.events.tell(event, told(error))
                self.failures += isinstance(error, BackendError) or not isinstance(error, StorageError)
                self._failed(place, row, told(error))
            else:
                changed.append(row)
        return changed

    def _failed(self, place: Place, row: Row, problem: str) -> None:
        self._report.add_failed(MoveFinding(place.name, row.key, problem))
