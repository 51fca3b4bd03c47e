"""Garbage collection of ten times as many objects: what one object costs is to stay the same.

It makes a database of about 25 GB, and takes half an hour.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.garbage import collecting, fill, location
from benchmarks.results import Result
from benchmarks.runner import measure

__all__ = ["run"]

_MIB = 2**20


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 100_000 if settings.quick else 5_000_000
    with TemporaryDirectory(dir=settings.directory) as folder:
        few, many = str(Path(folder) / "few.db"), str(Path(folder) / "many.db")
        fill(few, range(count), location)
        fill(many, range(10 * count), location)
        contenders = (
            Contender(f"{10 * count:,} objects", collecting_a_tenth, (many, 10 * count), note="a tenth of the time"),
            Contender(f"{count:,} objects", collecting, (few, count, False), goal=1.2),
        )
        title = f"gc of {10 * count:,} objects, for each object"
        yield measure(Case(title, contenders, count, "us/object", 1e6, peak_goal=64 * _MIB), min(settings.rounds, 2))


@contextmanager
def collecting_a_tenth(database: str, count: int) -> Iterator[Round]:
    """A dry run, of which a tenth of the time counts."""

    def timed() -> float:
        start = time.perf_counter()
        one.run()
        return (time.perf_counter() - start) / 10

    with collecting(database, count, False) as one:
        yield Round(timed)
