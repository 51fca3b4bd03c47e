"""Verification, shallow: every row of a table against every file of a folder.

The least that anybody could do is to look at each file once (``os.scandir()`` with ``stat()``) and at each row once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.garbage import Base, fill
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import StorageManager, StoragePolicy
from granite_storage.verify import StorageVerifier

__all__ = ["run"]

_MIB = 2**20
_A_DAY = 10_000  # files in a folder
_QUERY = "SELECT json_extract(report, '$.location'), json_extract(report, '$.size') FROM document"


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 50_000 if settings.quick else 1_000_000
    with TemporaryDirectory(dir=settings.directory) as folder:
        database, root = str(Path(folder) / "shop.db"), str(Path(folder) / "files")
        fill(database, range(count), _location, backend="local", size=1)
        _make_files(root, count)
        args = (database, root, count)
        contenders = (
            Contender("granite-storage", verifying, args, note="StorageVerifier.verify()"),
            Contender("scandir, stat, cursor", looking, args, goal=1.5, note="compares nothing"),
        )
        title = f"verify {count:,} local files"
        yield measure(Case(title, contenders, count, "us/file", 1e6, peak_goal=64 * _MIB), settings.rounds)


def _location(number: int) -> str:
    month, day = divmod(number // _A_DAY, 28)
    return f"docs/2024/{1 + month:02}/{1 + day:02}/{number:08x}-0000-7000-8000-000000000000.pdf"


def _make_files(root: str, count: int) -> None:
    for number in range(count):
        path = f"{root}/{_location(number)}"
        if number % _A_DAY == 0:
            os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"x")


@contextmanager
def verifying(database: str, root: str, count: int) -> Iterator[Round]:
    """All rows and all files."""
    engine = create_engine(f"sqlite:///{database}")
    policies = {"documents": StoragePolicy("documents", "local", key_prefix="docs")}
    manager = StorageManager({"local": f"file://{root}"}, policies)
    manager.attach(Base, engine=engine)

    def verify() -> None:
        report = StorageVerifier(manager).verify()
        assert (report.rows, report.objects, report.found) == (count, count, 0), report

    yield Round(verify)
    engine.dispose()


@contextmanager
def looking(database: str, root: str, count: int) -> Iterator[Round]:
    """Each file and each row once."""

    def look() -> None:
        assert _files_in(f"{root}/docs") == count
        with closing(sqlite3.connect(database)) as connection:
            assert sum(1 for _ in connection.execute(_QUERY)) == count

    yield Round(look)


def _files_in(folder: str) -> int:
    found = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _files_in(entry.path)
            else:
                found += entry.stat(follow_symlinks=False).st_size
    return found
