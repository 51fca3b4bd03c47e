"""A verification in parts, on any executor, finds and repairs what one in a single process does."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session

from granite_storage import StorageManager, StoredObjectRef
from granite_storage.backends.memory import _Object
from granite_storage.exceptions import BackendError, ConfigurationError
from granite_storage.maintenance.verify import both_sides, report, rows_within
from granite_storage.orm.changes import Free
from granite_storage.orm.outbox import outbox_of, write_freed
from granite_storage.orm.sites import Site
from granite_storage.verify import Finding, FindingKind, StorageVerifier, VerifyReport
from tests.databases import Database
from tests.maintenance.ages import put_old
from tests.maintenance.shops import Shop
from tests.orm.worlds import World

DAY = timedelta(days=1)


def _ref(location: str, backend: str = "memory", size: int = 3) -> StoredObjectRef:
    return StoredObjectRef("documents", backend, location, size, f"sha256:{hashlib.sha256(b'old').hexdigest()}")


def _name(world: World, *locations: str, field: str = "report", **how: Any) -> None:
    with world.engine.begin() as connection:
        for location in locations:
            connection.execute(insert(world.Document.__table__), {field: _ref(location, **how)})


def _spoil(world: World) -> None:
    """Everything that can be wrong, spread over two years."""
    kept = [put_old(world.backend, days * DAY) for days in range(1, 700, 20)]
    _name(world, *kept)
    _name(world, *(put_old(world.backend, days * DAY) for days in (5, 605)), field="scan")
    for days in (40, 400, 690):
        put_old(world.backend, days * DAY)  # orphans
    put_old(world.backend, timedelta(hours=1))
    put_old(world.backend, 300 * DAY, prefix="covers")
    for location in (kept[3], kept[20]):
        del world.backend._objects[location]
    world.backend._objects[kept[8]] = _Object(b"longer", datetime.now(UTC))
    world.backend._objects[kept[12]] = _Object(b"OLD", datetime.now(UTC))  # only reading tells
    _name(world, kept[5], field="scan")
    _name(world, kept[5], kept[30], size=4)
    _name(world, "docs/page/1-gone", "elsewhere/a", "covers2/b", "docs")
    _name(world, kept[9], "nowhere/c", backend="who")
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    gone = Free(world.manager, Site.of(world.engine, world.Base.metadata), _ref("docs/page/2-freed"), "test")
    with world.engine.begin() as connection:
        write_freed(connection, outbox, [gone])


def _both(world: World, executor: Executor, parts: int = 7, **how: Any) -> tuple[VerifyReport, VerifyReport]:
    """The report of a verification alone and of one in parts, the findings of each in the same order."""
    reports = []
    for options in ({}, {"executor": executor, "parts": parts}):
        told: list[Finding] = []
        verifier = StorageVerifier(world.manager, engine=world.engine, found=told.append)
        reports.append(verifier.verify(**options, **how))
        assert told == reports[-1].findings
        reports[-1].findings.sort(key=str)
    return reports[0], reports[1]


def test_in_parts_it_finds_the_same(world: World, threads: Executor) -> None:
    _spoil(world)
    alone, in_parts = _both(world, threads, deep=True)
    assert in_parts == alone and alone.bytes_read > 90 and alone.counts[FindingKind.CHECKSUM] == 1
    alone, in_parts = _both(world, threads)
    assert in_parts == alone
    assert {kind.value: count for kind, count in alone.counts.items()} == {
        "missing": 6,
        "size": 3,
        "shared": 2,
        "unknown-backend": 2,
        "orphan": 4,
        "outbox-gone": 1,
    }


@pytest.mark.parametrize("parts", [1, 2, 40])
def test_of_one_policy_it_finds_the_same_whatever_the_number_of_parts(
    world: World, threads: Executor, parts: int
) -> None:
    _spoil(world)
    alone, in_parts = _both(world, threads, parts, storage_key="documents")
    assert in_parts == alone and in_parts.rows > 30


def test_pages_may_end_anywhere(world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 2)
    _spoil(world)
    for number in range(7):  # more than a page of each column, and nothing listed between
        _name(world, f"docs/page/{number}-gone")
        _name(world, f"docs/page/{number}-lost", field="scan")
    alone, in_parts = _both(world, threads, 3)
    assert in_parts == alone


def test_columns_without_an_index_and_very_many_databases_are_read_once_a_part(
    world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_within, "MANY_SITES", 0)
    _spoil(world)
    alone, in_parts = _both(world, threads)
    assert in_parts == alone


def test_it_repairs_the_same(world: World, threads: Executor) -> None:
    _spoil(world)
    verifier = StorageVerifier(world.manager, engine=world.engine)
    report = verifier.verify(repair=True, executor=threads, parts=7)
    assert (report.repaired, report.refused) == (5, [])
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.connect() as connection:
        assert len(connection.scalars(select(outbox.c.location)).all()) == 4
    again = verifier.verify(repair=True, executor=threads, parts=7)
    assert (again.repaired, again.awaiting) == (0, 4)


def test_the_brake_looks_at_all_parts(world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.brake._OBJECTS", 20)
    _name(world, *(put_old(world.backend, days * DAY) for days in range(1, 200, 10)))
    for days in range(300, 304):
        put_old(world.backend, days * DAY)
    verifier = StorageVerifier(world.manager, engine=world.engine)
    report = verifier.verify(repair=True, executor=threads, parts=7)
    assert report.repaired == 0 and "4 of 24 objects" in report.refused[0]
    assert verifier.verify(repair=True, force=True, executor=threads, parts=7).repaired == 4


def test_rows_that_nobody_can_read_stop_all_parts(world: World, threads: Executor) -> None:
    _name(world, put_old(world.backend, DAY))
    put_old(world.backend, 30 * DAY)
    with world.engine.begin() as connection:
        kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"INSERT INTO document (id, scan) VALUES (70, '[1]'{kind})")
    alone, in_parts = _both(world, threads, repair=True)
    assert in_parts == alone and in_parts.repaired == 0 and "'documents': orphans stay" in in_parts.refused[0]


def test_another_owners_orphans_are_not_judged_in_parts_either(world: World, threads: Executor) -> None:
    _name(world, put_old(world.backend, DAY))
    put_old(world.backend, 30 * DAY)
    StorageManager({"memory": world.backend}, {}, owner="other").ownership.take(
        world.backend, world.manager.policies["documents"], set()
    )
    alone, in_parts = _both(world, threads, repair=True)
    assert in_parts == alone and (in_parts.found, in_parts.repaired) == (0, 0)
    assert "belongs to the owner 'other'" in in_parts.refused[0]


def test_a_part_names_its_first_findings_and_counts_all(
    world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_KEPT", 3)
    _name(world, *(f"{folder}/{number}-gone" for number in range(10) for folder in ("docs/page", "elsewhere")))
    told: list[Finding] = []
    verifier = StorageVerifier(world.manager, engine=world.engine, found=told.append)
    found = verifier.verify(executor=threads, parts=3)
    assert (found.counts[FindingKind.MISSING], len(found.findings), len(told)) == (20, 3, 6)


def test_a_store_that_cannot_be_listed_is_told_by_each_part(
    world: World, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _name(world, put_old(world.backend, 30 * DAY))

    iter_objects = world.backend.iter_objects

    def fail(folder: str, **options: Any) -> Any:
        if folder == "docs":
            raise BackendError("the store is down")
        return iter_objects(folder, **options)

    monkeypatch.setattr(world.backend, "iter_objects", fail)
    alone, in_parts = _both(world, threads)
    assert in_parts.refused == alone.refused and "it could not be listed" in in_parts.refused[0]


def test_an_error_in_a_part_is_raised(world: World, threads: Executor) -> None:
    _spoil(world)

    @event.listens_for(world.engine, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, parameters: object, *rest: object) -> None:
        if "/20" in str(parameters):
            raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        StorageVerifier(world.manager, engine=world.engine).verify(executor=threads)
    event.remove(world.engine, "before_cursor_execute", fail)


@pytest.mark.databases("sqlite")
def test_it_says_what_an_executor_needs(world: World, processes: Executor, threads: Executor) -> None:
    verifier = StorageVerifier(world.manager, engine=world.engine)
    with pytest.raises(ConfigurationError, match="gives a verifier like this one"):
        verifier.verify(executor=processes)
    with pytest.raises(ConfigurationError, match="parts is a number of ranges, 1 or more, not 0"):
        verifier.verify(executor=threads, parts=0)


@pytest.mark.databases("sqlite", "postgresql")
def test_an_asynchronous_engine_needs_a_synchronous_one_in_other_threads(
    world: World, database: Database, threads: Executor
) -> None:
    entry = "aiosqlite" if database.name == "sqlite" else "asyncpg"
    _spoil(world)
    alone = StorageVerifier(world.manager, engine=world.engine).verify()

    async def verify(engine: AsyncEngine) -> VerifyReport:
        verifier = StorageVerifier(world.manager, engine=engine)
        with pytest.raises(ConfigurationError, match="gives a verifier with an engine of another driver"):
            await verifier.averify(executor=threads)
        ticked = threading.Event()

        async def tick() -> None:
            while True:
                ticked.set()
                await asyncio.sleep(0)

        def make() -> StorageVerifier:
            ticked.clear()
            assert ticked.wait(20), "the event loop is not free"
            return StorageVerifier(world.manager, engine=world.engine)

        ticking = asyncio.create_task(tick())
        found = await verifier.averify(executor=threads, make=make, parts=5)
        ticking.cancel()
        await engine.dispose()
        return found

    found = asyncio.run(verify(create_async_engine(database.url_through(entry))))
    assert found.counts == alone.counts


# Past one process


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """With 23 files, one of them changed and one missing."""
    with Session(shop.module.engine) as session:
        documents = [shop.module.Document(id=n + 1, report=b"content") for n in range(23)]
        session.add_all(documents)
        session.commit()
        (shop.folder / "files" / documents[7].report.location).write_bytes(b"CONTENT")
        (shop.folder / "files" / documents[9].report.location).unlink()
    return shop


def _check(report: VerifyReport, shop: Shop) -> None:
    assert {(one.kind.value, one.key) for one in report.findings} == {("checksum", (8,)), ("missing", (10,))}
    assert (report.rows, report.objects) == (23, 22)
    assert report.bytes_read == 7 * 23  # the changed one twice, to be sure
    shop.check_workers()


def test_on_processes(filled: Shop, processes: Executor) -> None:
    make = filled.module.make_verifier
    _check(make().verify(deep=True, executor=processes, make=make, parts=4), filled)


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_on_dask(filled: Shop, dask: Executor) -> None:
    make = filled.module.make_verifier
    _check(make().verify(deep=True, executor=dask, make=make, parts=4), filled)
