"""A garbage collection in parts: the same result, on threads, on processes, on Dask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from datetime import timedelta

import pytest
from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import create_async_engine

from granite_storage import StoredObjectRef
from granite_storage.exceptions import ConfigurationError, StorageError
from granite_storage.gc import GarbageReport, StorageGarbageCollector
from granite_storage.locations import new_location
from granite_storage.maintenance.ranges import LocationRange, cut, stretches_of
from tests.databases import Database
from tests.maintenance.ages import put_old
from tests.maintenance.shops import Shop
from tests.maintenance.test_gc import _put
from tests.orm.worlds import World

DAY = timedelta(days=1)


def test_ranges_cover_every_location_once(world: World) -> None:
    manager, policy = world.manager, world.manager.policies["documents"]
    for days in (1000, 999, 500, 30, 29, 2, 0):
        put_old(world.backend, days * DAY)
    _put(world, "docs/0-before-all-dates")
    _put(world, "docs/page/1-deadbeef")
    beside = put_old(world.backend, 400 * DAY, prefix="docs-old")
    everything = sorted(world.objects() - {beside})
    assert _listed(world, cut(manager, policy, 1)) == everything
    world.backend.delete(StoredObjectRef("", "memory", "docs/0-before-all-dates", 0, ""))
    everything.remove("docs/0-before-all-dates")
    for parts in (2, 7, 100):
        ranges = cut(manager, policy, parts)
        assert len(ranges) == parts
        assert _listed(world, ranges) == everything


def _listed(world: World, ranges: Iterable[LocationRange]) -> list[str]:
    return [one.location for part in ranges for stretch in stretches_of(world.manager, part) for one in stretch]


def test_a_prefix_that_is_empty_or_of_another_layout_is_one_range(world: World) -> None:
    manager, policy = world.manager, world.manager.policies["documents"]
    assert len(cut(manager, policy, 10)) == 1
    _put(world, "docs/page/1-deadbeef")
    assert len(cut(manager, policy, 10)) == 1


def test_in_parts_it_finds_and_deletes_the_same(world: World, threads: Executor) -> None:
    world.add(report=b"kept", cover=b"kept")
    old = {put_old(world.backend, days * DAY) for days in range(2, 400, 10)}
    old.add(put_old(world.backend, 3 * DAY, prefix="covers"))
    young = put_old(world.backend, timedelta(hours=2))
    undeclared = _put(world, "docs/page/1-deadbeef")
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    alone = collector.collect()
    assert collector.collect(executor=threads) == alone
    report = collector.collect(executor=threads, dry_run=False, parts=5)
    assert (report.orphaned, report.deleted, report.young, report.undeclared) == (len(old) + 2, len(old), 1, 1)
    assert report.deleted_bytes == 3 * len(old) and report.complete
    assert young in world.objects() and undeclared in world.objects() and not old & world.objects()


def test_the_brake_looks_at_all_parts(world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.brake._OBJECTS", 50)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(90))
        session.commit()
    for days in range(100, 111):
        put_old(world.backend, days * DAY)
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    report = collector.collect(executor=threads, dry_run=False)
    assert report.deleted == 0 and "11 of 101 objects" in report.refused[0]
    assert collector.collect(executor=threads, dry_run=False, force=True).deleted == 11
    world.check()


def test_if_nothing_names_anything_nothing_goes_in_parts_either(world: World, threads: Executor) -> None:
    put_old(world.backend, 30 * DAY)
    collector = StorageGarbageCollector(world.manager, list, engine=world.engine)
    report = collector.collect(executor=threads, dry_run=False)
    assert report.deleted == 0 and "nothing names any object" in report.refused[0]


def test_unreadable_rows_stop_all_parts(world: World, threads: Executor) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    with world.engine.begin() as connection:
        kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"INSERT INTO document (id, scan) VALUES (7, '[1]'{kind})")
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    report = collector.collect(executor=threads, dry_run=False)
    assert report.deleted == 0 and "'documents': 1 orphans stay" in report.refused[0]


def test_what_the_store_does_not_delete_is_counted_in_parts_too(world: World, threads: Executor) -> None:
    world.add(report=b"kept")
    locked = put_old(world.backend, 30 * DAY)

    def refuse(location: str) -> None:
        raise StorageError("locked")

    world.backend.before_delete = refuse
    report = StorageGarbageCollector(world.manager, engine=world.engine).collect(
        dry_run=False, executor=threads, parts=5
    )
    assert (report.deleted, report.failed, report.complete) == (0, 1, False) and locked in world.objects()


def test_an_error_in_a_part_is_raised_and_nothing_is_deleted(world: World, threads: Executor) -> None:
    world.add(report=b"kept")
    for days in range(10, 100, 10):
        put_old(world.backend, days * DAY)
    count = len(world.objects())

    @event.listens_for(world.engine, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "BETWEEN" in statement or "ANY" in statement:
            raise RuntimeError("the database went away")

    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    with pytest.raises(RuntimeError, match="went away"):
        collector.collect(executor=threads, dry_run=False)
    event.remove(world.engine, "before_cursor_execute", fail)
    assert len(world.objects()) == count


@pytest.mark.databases("sqlite")
def test_an_asynchronous_engine_needs_to_know_how_others_are_made(
    world: World, database: Database, threads: Executor
) -> None:
    engine = create_async_engine(database.url_through("aiosqlite"))
    collector = StorageGarbageCollector(world.manager, engine=engine)
    with pytest.raises(ConfigurationError, match="give make="):
        asyncio.run(collector.acollect(executor=threads))
    with pytest.raises(ConfigurationError, match="parts is a number of ranges, 1 or more, not 0"):
        StorageGarbageCollector(world.manager, engine=world.engine).collect(executor=threads, parts=0)


def test_an_executor_of_processes_needs_to_know_how_collectors_are_made(world: World, processes: Executor) -> None:
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    with pytest.raises(ConfigurationError, match="give make=, a function of a module"):
        collector.collect(executor=processes)


# Past one process


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """With 3 files that rows name and 20 orphans."""
    backend, table = shop.module.manager.backends["local"], shop.module.Document.__table__
    with shop.module.engine.begin() as connection:
        for number in range(23):
            milliseconds = 1_700_000_000_000 + number * 86_400_000
            ref = backend.put_bytes(key=new_location("documents", milliseconds=milliseconds), content=b"x")
            os.utime(shop.folder / "files" / ref.location, (1_700_000_000, 1_700_000_000))
            if number % 8 == 0:
                named = StoredObjectRef("documents", "local", ref.location, 1, ref.checksum)
                connection.execute(insert(table), {"report": named})
    return shop


def _check(report: GarbageReport, shop: Shop) -> None:
    assert (report.scanned, report.referenced, report.orphaned, report.deleted) == (23, 3, 20, 20)
    assert report.complete and len(list(shop.module.manager.backends["local"].iter_locations("documents"))) == 3
    shop.check_workers()


def test_on_processes(filled: Shop, processes: Executor) -> None:
    make = filled.module.make_collector
    _check(make().collect(executor=processes, make=make, dry_run=False, parts=4), filled)


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_on_dask(filled: Shop, dask: Executor) -> None:
    make = filled.module.make_collector
    _check(make().collect(executor=dask, make=make, dry_run=False, parts=4), filled)
