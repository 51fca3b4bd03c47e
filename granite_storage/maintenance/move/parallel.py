"""A move in parts, on any executor: of threads, processes, or machines.

A part is a range of a table's primary keys, rather than of locations: no index leads from a policy to its rows, so that
each range of locations would cost a look at all rows, and PostgreSQL's location index is not in byte order. Ranges of
keys are read once in all, and cost a few short statements to cut. A row is in one part only, with all its file columns,
so that no two workers wait for its lock; were it otherwise, compare-and-set would keep it safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from granite_storage.maintenance.move.rows import Key, KeyRange
from granite_storage.maintenance.parallel import check_parts, do_parts

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from granite_storage.maintenance.move.report import MoveReport
    from granite_storage.maintenance.move.rows import Place
    from granite_storage.maintenance.move.run import MoveRun
    from granite_storage.move import StorageMover

__all__ = ["LEAST", "MoveInParts", "MovePart"]

LEAST = 100
"""How many rows a range has at least, the last one aside."""

MakeMover = Callable[[], "StorageMover"]


@dataclass(frozen=True, slots=True)
class MovePart:
    """What one piece of work moves: files of rows of one table.

    :param site: the number of the database, as the mover has them.
    :param table: the table's key in its MetaData.
    """

    site: int
    table: str
    keys: KeyRange


class MoveInParts:
    """Moves all parts, each on the executor.

    :param parts: into how many ranges each table's rows are cut, at most; under a limit of speed, so many are at work
        at once, too, each with its share.
    :param options: with what :meth:`~granite_storage.move.StorageMover.move` was called.
    """

    def __init__(self, make: MakeMover, executor: Executor, parts: int, options: tuple[str, dict[str, Any]]) -> None:
        self._make, self._executor, self._parts = make, executor, check_parts(parts)
        self._options = options

    def __call__(self, run: MoveRun) -> None:
        def done(part: MovePart, report: MoveReport) -> None:
            run.report.add(report)
            run.progress(run.report)

        parts = [*self._cut(run)]
        at_once = min(self._parts, len(parts)) or 1
        storage_key, options = self._options
        work = partial(_move_part, self._make, storage_key, {**options, **run.pace.shared(at_once)})
        do_parts(self._executor, work, parts, done, at_once=at_once if run.pace.limited else None)

    def _cut(self, run: MoveRun) -> Iterator[MovePart]:
        tables: dict[tuple[int, str], Place] = {}
        for place in run.places():
            if run.can_be_walked(place):
                tables.setdefault((run.sites.index(place.site), place.column.table.key), place)
        for (site, table), place in tables.items():
            for keys in cut(place, self._parts):
                yield MovePart(site, table, keys)


def cut(place: Place, parts: int) -> list[KeyRange]:
    """A table's rows in at most ``parts`` ranges of about as many rows each; rows that come later are in the last."""
    ends: list[Key] = []
    step = LEAST
    while (end := place.key_behind(KeyRange(ends[-1] if ends else None), step)) is not None:
        ends.append(end)
        if len(ends) == 2 * parts:  # too fine: every other one will do
            ends, step = ends[1::2], 2 * step
    if len(ends) >= parts:
        ends = [ends[number * len(ends) // parts] for number in range(1, parts)]
    return [KeyRange(after, upto) for after, upto in pairwise([None, *ends, None])]


def _move_part(make: MakeMover, storage_key: str, options: dict[str, Any], part: MovePart) -> MoveReport:
    return make().move_part(part, storage_key, **options)
