"""Work in parts that is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import select

from granite_storage import MemoryStorageBackend, StoragePolicy
from granite_storage.gc import StorageGarbageCollector
from granite_storage.maintenance import parallel
from granite_storage.maintenance.garbage import collect
from granite_storage.maintenance.move import run
from granite_storage.maintenance.move.parallel import MovePart
from granite_storage.maintenance.move.rows import KeyRange
from granite_storage.maintenance.parallel import PartStoppedError, check_stopped, do_parts
from granite_storage.maintenance.ranges import whole
from granite_storage.maintenance.verify.intervals import Interval
from granite_storage.maintenance.verify.parallel import VerifyPart
from granite_storage.move import StorageMover
from granite_storage.verify import StorageVerifier
from tests.maintenance.ages import put_old
from tests.orm.worlds import World

DAY = timedelta(days=1)


def test_an_interrupt_ends_the_parts_that_threads_are_at() -> None:
    began, ended = Event(), []

    def work(part: int) -> None:
        if part == 0:
            assert began.wait(60)
            return
        began.set()
        try:
            for _ in range(10_000):
                check_stopped()
                time.sleep(0.005)
        except PartStoppedError:
            ended.append(part)
            raise

    def interrupt(part: int, result: None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(2) as executor:
        do_parts(executor, work, range(5), interrupt)
    assert 1 in ended and set(ended) <= {1, 2}  # 2 may have begun in the thread that was through with 0
    check_stopped()  # nobody else is stopped by it


@contextmanager
def _given_up_after(deletes: int, backend: MemoryStorageBackend) -> Iterator[None]:
    """A part whose whole is given up once so many objects are deleted."""
    stop = Event()
    deleted: set[str] = set()

    def count(location: str) -> None:
        deleted.add(location)
        if len(deleted) >= deletes:
            stop.set()

    backend.before_delete = count
    if not deletes:
        stop.set()
    token = parallel._stop.set(stop)
    try:
        with pytest.raises(PartStoppedError):
            yield
    finally:
        parallel._stop.reset(token)
        backend.before_delete = lambda location: None


def test_a_part_of_a_collection_ends_with_its_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_BATCH", 1)
    world.add(report=b"kept")
    for _ in range(5):
        put_old(world.backend, 30 * DAY)
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    part = whole(world.manager.policies["documents"])
    with _given_up_after(2, world.backend):
        collector.collect_part(part, grace=DAY, dry_run=False)
    assert len(world.objects()) == 4
    with _given_up_after(0, world.backend):
        collector.collect_part(part, grace=DAY, dry_run=False)
    assert len(world.objects()) == 4


@pytest.mark.parametrize("deep", [False, True])
def test_a_part_of_a_verification_ends(world: World, deep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        world.add(report=b"kept")
    read: list[object] = []
    monkeypatch.setattr(world.manager, "file", read.append)
    interval = Interval("docs/", "docs0", whole(world.manager.policies["documents"]))
    part = VerifyPart("memory", (interval,), own=True, before=None, reports_unknown="memory")
    with _given_up_after(0, world.backend):
        StorageVerifier(world.manager, engine=world.engine).verify_part(part, deep=deep, repair=False)
    assert read == []


def test_a_part_of_a_move_ends_with_its_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH", 1)
    for _ in range(5):
        world.add(report=b"kept")
    archive = MemoryStorageBackend()
    policies = {**world.manager.policies, "archive": StoragePolicy("archive", "archive")}
    options: dict[str, Any] = {"to": "archive", "from_backend": None, "dry_run": False, "limits": True, "reread": False}
    with world.manager.override({"memory": world.backend, "archive": archive}, policies):
        mover = StorageMover(world.manager, engine=world.engine)
        with _given_up_after(2, world.backend):
            mover.move_part(
                MovePart(0, "document", KeyRange()),
                "documents",
                bytes_per_second=None,
                objects_per_second=None,
                **options,
            )
        assert len(list(archive.iter_locations("archive"))) == 2
        with world.session() as session:
            assert [one.report.read() for one in session.scalars(select(world.Document))] == [b"kept"] * 5
