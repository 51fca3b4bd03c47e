"""A move: files from one policy or backend to another, while the application runs.

1. Refuse replicas, and prefixes of another owner; mark the target's prefix as an upload would.
2. Read the rows whose refs say that their file is to be moved: a small batch, by primary key.
3. Copy their objects side by side, and verify the copies.
4. Switch the rows in one short transaction, each only if it still holds what was read; it writes what they named into
   the outbox.
5. Once that is durable, delete what they named, as the end of any transaction does, and go on with the next batch.

Nothing is remembered: what was moved is not found again. It may be cut off anywhere, and run beside uploads, sweeps,
collections and other moves; what a cut-off batch copied is younger than the grace period, and a sweep finds it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.horizon import refuse_replicas
from granite_storage.maintenance.key_types import untellable
from granite_storage.maintenance.move.batch import BatchMove
from granite_storage.maintenance.move.fitting import misfit
from granite_storage.maintenance.move.report import MoveFinding, MoveReport
from granite_storage.maintenance.move.rows import KeyRange, Place, Row
from granite_storage.maintenance.places import check_tables, columns_there, database_ids
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.maintenance.wording import plural
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.marking import mark

if TYPE_CHECKING:
    from sqlalchemy import Column

    from granite_storage.maintenance.move.pace import Pace
    from granite_storage.maintenance.move.parallel import MoveInParts, MovePart
    from granite_storage.maintenance.move.selection import Selection
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["BATCH", "MoveRun"]

BATCH = 100
"""How many files are copied before their rows are switched, at most."""

_BATCH_BYTES = 2**30
_ROUNDS = 3  # how often a row is read and copied anew that was given another file meanwhile, which is to be moved, too
_FAILURES = 100  # in a row, and nothing is moved any more: the store may be down
_log = logging.getLogger("granite_storage")


class MoveRun:
    """One move.

    :param sites: the databases that are asked whether a row names an object.
    :param columns: those whose files are moved; None for all.
    :param limits: whether what the target policy does not take stays where it is.
    """

    def __init__(
        self,
        manager: StorageManager,
        sites: Sequence[Site],
        selection: Selection,
        target: StoragePolicy,
        *,
        columns: Collection[Column[Any]] | None,
        pace: Pace,
        limits: bool,
        reread: bool,
        dry_run: bool,
        progress: Callable[[MoveReport], object],
    ) -> None:
        self.manager, self.sites, self.selection, self.target = manager, sites, selection, target
        self.columns, self.pace, self.limits, self.progress = columns, pace, limits, progress
        self.report = MoveReport(dry_run=dry_run)
        self._batches = BatchMove(manager, sites, target, self.report, limits=limits, reread=reread)

    def move(self, in_parts: MoveInParts | None = None) -> MoveReport:
        """Do it.

        :param in_parts: moves instead.
        """
        refuse_replicas(self.sites)
        check_tables(self.sites)
        self._check_owner()
        if self.columns is None:
            self.report.refused += unasked_fields(self.sites)
        if in_parts is not None:
            in_parts(self)
        else:
            for place in self.places():
                if self.can_be_walked(place):
                    self._move_column(place, KeyRange())
        self.progress(self.report)
        _log.info("%s", self.report)
        return self.report

    def move_part(self, part: MovePart) -> MoveReport:
        """Move the files of a range of rows: those of all file columns, one after the other."""
        there = [
            place
            for place in self.places()
            if (self.sites.index(place.site), place.column.table.key) == (part.site, part.table)
        ]
        if not there:
            raise ConfigurationError(
                f"what make= gives is no mover like the one that asks: it has no files to move in table {part.table!r} "
                f"of database number {part.site}; let both have the same manager, models and engines"
            )
        for place in there:
            self._move_column(place, part.keys)
        self.pace.wait(self.manager.pool)  # another part comes next, and knows nothing of this one's last batch
        return self.report

    def places(self) -> Iterator[Place]:
        """The columns whose files are moved."""
        for site in self.sites:
            for column in columns_there(site):
                if self.columns is None or column in self.columns:
                    yield Place(site, column)

    def _check_owner(self) -> None:
        manager, marking = self.manager, not self.report.dry_run
        for policy in (manager.get_policy(self.selection.storage_key), self.target):
            backend = manager.get_backend_for_policy(policy)
            off_loop(manager.pool, partial(manager.ownership.check, backend, policy, mark=marking))

    def can_be_walked(self, place: Place) -> bool:
        """Whether a column's rows can be told apart; the report says so if not, and how many of them cannot."""
        problem = untellable(place.site.engine.dialect.name, place.keys)
        if not place.keys:
            problem = "its table has no primary key, by which a row could be told"
        if problem is not None:
            self.report.refused.append(f"{place.name}: {problem}; its files were not moved")
            return False
        unnamed = place.count_unnamed(self.selection)
        if unnamed:
            self.report.refused.append(
                f"{place.name}: {unnamed} row{plural(unnamed)} with a primary key that is NULL, by which no row can be "
                "told; their files were not moved: give them one"
            )
        return True

    def _move_column(self, place: Place, keys: KeyRange) -> None:
        for rows in place.batches(self.selection, self.pace.most_objects(BATCH), keys):
            for batch in self._cut(rows):
                if self._batches.failures >= _FAILURES:
                    self.report.refused.append(
                        f"{place.name}: {self._batches.failures} files could not be moved, one after the other, and "
                        "the rest was not tried; the report's `findings` say why: mend it, and run the move again"
                    )
                    return
                self._move_batch(place, batch)
                self.progress(self.report)

    def _cut(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Parts that are copied, and committed, together: of not too many bytes."""
        most = self.pace.most_bytes(_BATCH_BYTES)
        part: list[Row] = []
        size = 0
        for row in rows:
            size += _size(row)
            if part and size > most:
                yield part
                part, size = [], _size(row)
            part.append(row)
        if part:
            yield part

    def _move_batch(self, place: Place, batch: list[Row]) -> None:
        rows = [row for row in batch if self._may_be_moved(place, row)]
        if self.report.dry_run:
            self.report.moved += len(rows)
            self.report.moved_bytes += sum(map(_size, rows))
            return
        if rows:
            mark(self.manager, self.target.storage_key, place.site, lambda: database_ids([place.site]).get(place.site))
        for _ in range(_ROUNDS):
            if not rows:
                return
            self.pace.begin(self.manager.pool)
            changed = self._batches.move(place, rows)
            self.pace.did(len(rows), sum(map(_size, rows)))
            with place.site.desk() as desk:
                again = place.read(desk.connection, [row.key for row in changed]).values() if changed else ()
            rows = [row for row in again if row.ref is not None and self.selection.has(row.ref)]
            self.report.raced += len(changed) - len(rows)
            rows = [row for row in rows if self._may_be_moved(place, row)]
        for row in rows:
            self._failed(
                place,
                row,
                "it was given another file, or others held locks on its table for too long, each time that it was "
                "copied; run the move again",
            )

    def _may_be_moved(self, place: Place, row: Row) -> bool:
        """Whether a row's file can be moved, as far as its ref tells."""
        if row.ref is None:
            self._failed(place, row, row.problem)
            return False
        problem = misfit(row.ref, self.target) if self.limits else None
        if problem is not None:
            self.report.add_skipped(MoveFinding(place.name, row.key, problem))
        return problem is None

    def _failed(self, place: Place, row: Row, problem: str) -> None:
        self.report.add_failed(MoveFinding(place.name, row.key, problem))


def _size(row: Row) -> int:
    return 0 if row.ref is None else row.ref.size
