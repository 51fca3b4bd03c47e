"""What only looks needs no right to write: a dry run works with a role, or a connection, that may only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select
from sqlalchemy.exc import DBAPIError

from granite_storage import StorageManager
from granite_storage.gc import StorageGarbageCollector
from granite_storage.maintenance.move import run
from granite_storage.move import StorageMover
from granite_storage.orm.outbox import outbox_of, seen_idle
from granite_storage.orm.registry import registry_of
from granite_storage.stats import storage_stats
from granite_storage.verify import StorageVerifier
from tests.databases import Database
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

_READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


@pytest.fixture
def reading(database: Database) -> Iterator[Engine]:
    """An engine that the database lets write nothing."""
    engine = database.engine()

    @event.listens_for(engine, "connect")
    def _restrict(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(_READ_ONLY[database.name])
        cursor.close()
        connection.commit()

    yield engine
    engine.dispose()


def _collect(world: World, engine: Engine) -> tuple[int, ...]:
    report = StorageGarbageCollector(world.manager, engine=engine).collect()
    return report.scanned, report.orphaned, report.deleted


def _verify(world: World, engine: Engine) -> tuple[int, ...]:
    report = StorageVerifier(world.manager, engine=engine).verify(deep=True)
    return report.rows, report.objects, report.found


def _count(world: World, engine: Engine) -> tuple[int, ...]:
    stats = storage_stats(world.manager, engine=engine)
    return (stats.total.count,)


def _move(world: World, engine: Engine) -> tuple[int, ...]:
    report = StorageMover(world.manager, engine=engine).move("documents", to="covers", dry_run=True)
    return report.moved, report.moved_bytes


def test_a_move_that_may_change_no_row_ends_with_its_first_batch(
    world: World, reading: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 2)
    for number in range(10):
        world.add(report=b"%d" % number)
    before, puts = world.objects(), list[str]()
    world.manager.sweep(world.engine)  # the target's prefix bears its mark
    world.backend.before_put = puts.append
    with pytest.raises(DBAPIError):
        StorageMover(world.manager, engine=reading).move("documents", to="covers")
    assert len(puts) <= 2
    assert world.objects() == before


def test_a_row_of_the_outbox_that_is_gone_meanwhile_is_none(world: World, reading: Engine) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    rows = [{"backend": "memory", "storage_key": "documents", "location": f"docs/{n}"} for n in range(2)]
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), rows)
        gone, there = connection.scalars(select(outbox.c.id).order_by(outbox.c.id)).all()
        connection.execute(outbox.delete().where(outbox.c.id == gone))
    with reading.connect() as connection:
        assert seen_idle(connection, outbox, [gone, there]) == {there}


@pytest.mark.parametrize("work", [_collect, _verify])
def test_a_dry_run_marks_no_prefix(world: World, work: Callable[[World, Engine], tuple[int, ...]]) -> None:
    manager = StorageManager({"memory": world.backend}, dict(world.manager.policies), owner="staging")
    world.Base.metadata.info.clear()
    manager.attach(world.Base)
    world.manager = manager
    registry = registry_of(world.Base.metadata)
    assert registry is not None
    with world.engine.begin() as connection:
        connection.execute(registry.delete())
    work(world, world.engine)
    assert [*world.backend.iter_locations("docs/.granite-storage")] == []
    with world.engine.connect() as connection:
        assert connection.execute(select(registry)).all() == []


@pytest.mark.databases("postgresql", "mariadb")
def test_only_a_right_that_is_missing_lets_it_look_at_the_outbox_without_a_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    gone = {"backend": "memory", "storage_key": "documents", "location": "docs/gone"}
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), gone)
    wait = {"postgresql": "SET lock_timeout = '300ms'", "mariadb": "SET innodb_lock_wait_timeout = 1"}
    event.listen(world.engine, "begin", lambda connection: connection.exec_driver_sql(wait[connection.dialect.name]))
    monkeypatch.setattr("granite_storage.orm.outbox.skips_locked", lambda connection: False)  # as MariaDB before 10.6
    with world.engine.connect() as worker:
        worker.execute(outbox.select().with_for_update()).all()
        with pytest.raises(DBAPIError, match=r"(?i)lock"):
            StorageVerifier(world.manager, engine=world.engine).verify()


@pytest.mark.parametrize(
    ("work", "seen"), [(_collect, (4, 1, 0)), (_verify, (2, 4, 3)), (_count, (2,)), (_move, (2, 10))]
)
def test_a_dry_run_writes_nothing(
    world: World, reading: Engine, work: Callable[[World, Engine], tuple[int, ...]], seen: tuple[int, ...]
) -> None:
    world.add(report=b"report", scan=b"scan")
    orphan = put_old(world.backend, 48 * HOUR)
    freed = put_old(world.backend, 48 * HOUR)
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    named = next(iter(world.objects() - {orphan, freed}))
    row = {"backend": "memory", "storage_key": "documents"}
    with world.engine.begin() as connection:  # one that waits, one that a row contradicts, and one whose object is gone
        rows = [row | {"location": location} for location in (freed, named, "docs/gone")]
        connection.execute(insert(outbox), rows)
    with pytest.raises(DBAPIError), reading.begin() as connection:
        connection.execute(outbox.delete())
    assert work(world, reading) == seen
