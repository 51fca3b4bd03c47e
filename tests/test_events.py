"""Events tell what happens to objects, to hooks and to the log, and say nothing that is secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from granite_storage import StorageManager, StoragePolicy, Upload
from granite_storage.events import StorageEvent
from granite_storage.exceptions import BackendError, ContentTooLargeError, ObjectNotFoundError
from granite_storage.gc import StorageGarbageCollector
from granite_storage.orm.outbox import outbox_of
from tests.maintenance.ages import put_old
from tests.maintenance.move.archives import ArchiveWorld
from tests.orm.worlds import World

DAY = timedelta(days=1)


@pytest.fixture
def world(memory_engine: Engine) -> World:
    return World(memory_engine)


@pytest.fixture
def events(world: World) -> list[StorageEvent]:
    told: list[StorageEvent] = []
    world.manager.on_event(told.append)
    return told


class Clock:
    """Stands still while nothing is done at the backend."""

    now = 0.0

    def takes(self, seconds: float, error: Exception | None = None) -> Callable[[str], None]:
        """Something that takes so long, and fails in the end if there is an error."""

        def do(location: str) -> None:
            self.now += seconds
            if error is not None:
                raise error

        return do


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("events", "deletion", "maintenance.sweep", "maintenance.garbage.collect", "maintenance.move.batch"):
        monkeypatch.setattr(f"granite_storage.{module}.perf_counter", lambda: clock.now)
    return clock


def _told(events: list[StorageEvent]) -> list[tuple[str, str, str, int]]:
    assert all(event.seconds >= 0 for event in events)
    return [(event.kind, event.policy, event.backend, event.bytes) for event in events]


def _free(world: World, content: bytes) -> None:
    """An object that is due in the outbox, as after a crash."""
    ref = world.manager.store("documents", content).ref
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    row = {name: getattr(ref, name) for name in ("backend", "location", "storage_key", "size")}
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), row)


def test_what_a_transaction_stores_and_frees_is_told(world: World, events: list[StorageEvent]) -> None:
    key = world.add(report=b"report", cover=b"a cover")
    assert sorted(_told(events)) == [("stored", "covers", "memory", 7), ("stored", "documents", "memory", 6)]
    assert {event.location for event in events} == world.objects()
    events.clear()
    with world.session() as session:
        document = session.get_one(world.Document, key)
        location = document.report.location
        document.report = None
        session.commit()
    assert _told(events) == [("deleted", "documents", "memory", 6)] and events[0].location == location


def test_every_way_to_store_is_told_once(world: World, events: list[StorageEvent]) -> None:
    manager = world.manager
    stored = manager.store("documents", b"12345")
    manager.copy("covers", stored)
    put = {"storage_key": "documents", "model_name": "a", "entity_id": 1, "field_name": "b"}
    manager.put_bytes(**put, content=b"123")  # type: ignore[arg-type]
    assert _told(events) == [
        ("stored", "documents", "memory", 5),
        ("stored", "covers", "memory", 5),
        ("stored", "documents", "memory", 3),
    ]
    events.clear()
    manager.delete(stored.ref)
    assert _told(events) == [("deleted", "documents", "memory", 5)]


def test_what_fails_is_told_with_its_error(world: World, events: list[StorageEvent]) -> None:
    with pytest.raises(ContentTooLargeError):
        world.manager.store("covers", Upload(bytes(1001), filename="secret name.png"))

    def refuse(location: str) -> None:
        raise BackendError("the disk is full")

    world.backend.before_put = refuse
    with pytest.raises(BackendError):
        world.manager.store("documents", b"x")
    world.backend.before_put = lambda key: None
    world.add(report=b"kept")
    location = put_old(world.backend, 30 * DAY)
    world.backend.before_delete = refuse
    StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=False)
    failed = [event for event in events if event.kind == "failed"]
    assert [(event.doing, event.policy, event.error) for event in failed] == [
        ("store", "covers", "ContentTooLargeError"),
        ("store", "documents", "BackendError"),
        ("delete", "documents", "BackendError"),
    ]
    assert failed[2].location == location
    assert not [event for event in events if event.kind == "deleted"], "it is still there"


def test_what_belongs_to_another_owner_is_a_deletion_that_fails(world: World, events: list[StorageEvent]) -> None:
    key = world.add(report=b"kept")
    others = StorageManager({"memory": world.backend}, {}, owner="other")
    others.ownership.take(world.backend, world.manager.policies["documents"], set())
    world.manager.ownership.forget([world.backend])
    events.clear()
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert [(event.kind, event.doing, event.policy, event.error) for event in events] == [
        ("failed", "delete", "documents", "OwnershipError")
    ]


def test_a_copy_and_a_deletion_that_fail_are_told_once(world: World, events: list[StorageEvent]) -> None:
    manager = world.manager
    gone, kept = manager.store("documents", b"12345"), manager.store("documents", b"123")
    manager.delete(gone.ref)
    events.clear()
    for policy in ("documents", "covers"):  # the backend copies within a policy by itself
        with pytest.raises(ObjectNotFoundError):
            manager.copy(policy, gone)

    def refuse(location: str) -> None:
        raise BackendError("the disk is read-only")

    world.backend.before_delete = refuse
    with pytest.raises(BackendError):
        manager.delete(kept.ref)
    assert [(event.kind, event.doing, event.policy, event.error) for event in events] == [
        ("failed", "store", "documents", "ObjectNotFoundError"),
        ("failed", "store", "covers", "ObjectNotFoundError"),
        ("failed", "delete", "documents", "BackendError"),
    ]
    assert events[2].location == kept.location


def test_a_sweep_and_a_collection_are_told(world: World, events: list[StorageEvent]) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 25 * timedelta(hours=1), content=b"left over")
    _free(world, b"freed, not deleted")
    put_old(world.backend, 90 * DAY, content=b"long ago")
    events.clear()
    world.manager.sweep(world.engine)
    StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=False)
    assert [(event.kind, event.objects, event.bytes) for event in events] == [
        ("deleted", 1, 18),
        ("deleted", 1, 9),
        ("swept", 2, 27),
        ("deleted", 1, 8),
        ("collected", 1, 8),
    ]


def test_a_dry_run_tells_nothing(world: World, events: list[StorageEvent]) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 25 * timedelta(hours=1))
    _free(world, b"freed")
    events.clear()
    assert world.manager.sweep(world.engine, dry_run=True).freed == 1
    assert StorageGarbageCollector(world.manager, engine=world.engine).collect().deletable == 1
    assert events == []


def test_seconds_are_those_that_it_took(world: World, events: list[StorageEvent], clock: Clock) -> None:
    world.backend.before_put = clock.takes(2)
    stored = world.manager.store("documents", b"12345")
    world.backend.before_put = clock.takes(3, BackendError("the disk is full"))
    with pytest.raises(BackendError):
        world.manager.store("documents", b"12345")
    world.backend.before_delete = clock.takes(4)
    world.manager.delete(stored.ref)
    assert [(event.kind, event.seconds) for event in events] == [("stored", 2), ("failed", 3), ("deleted", 4)]


def test_what_is_deleted_in_one_batch_shares_its_seconds(
    world: World, events: list[StorageEvent], clock: Clock
) -> None:
    world.add(report=b"kept")
    world.backend.before_delete = clock.takes(3)
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    runs: dict[timedelta, Callable[[], object]] = {
        25 * timedelta(hours=1): lambda: world.manager.sweep(world.engine),
        90 * DAY: lambda: collector.collect(dry_run=False),
    }
    for age, run in runs.items():
        for _ in range(4):
            put_old(world.backend, age)
        events.clear()
        run()
        *deleted, whole = events
        assert whole.kind in ("swept", "collected") and whole.seconds > 0
        assert [(event.kind, event.seconds) for event in deleted] == [("deleted", whole.seconds / 4)] * 4


def test_the_seconds_of_a_move_are_those_of_the_copy(memory_engine: Engine, clock: Clock) -> None:
    world, events = ArchiveWorld(memory_engine), list[StorageEvent]()
    world.fill(1)
    world.manager.on_event(events.append)
    world.archive.before_put, world.backend.before_delete = clock.takes(2), clock.takes(3)
    with world.with_archive():
        world.move()
    assert [event.seconds for event in events if event.kind == "moved"] == [2]


def test_hooks_are_called_in_the_order_in_which_they_came(world: World) -> None:
    called: list[str] = []
    for name in ("first", "second", "third"):
        world.manager.on_event(lambda event, name=name: called.append(name))  # type: ignore[misc]
    world.manager.store("documents", b"1")
    assert called == ["first", "second", "third"]


def test_each_is_a_record_of_the_log_that_makes_json(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "granite_storage"):
        stored = world.manager.store("documents", Upload(b"12345", filename="secret name.txt"))
        with pytest.raises(ContentTooLargeError):
            world.manager.store("covers", Upload(bytes(1001), filename="secret name.png"))
    first, second = (record for record in caplog.records if record.name == "granite_storage.events")
    said: dict[str, Any] = first.storage  # type: ignore[attr-defined]
    assert said == {**said, "kind": "stored", "policy": "documents", "bytes": 5, "location": stored.location}
    assert json.loads(json.dumps(said)) == said and "error" not in said
    assert first.getMessage() == f"stored memory:{stored.location}" and first.levelno == logging.INFO
    assert second.levelno == logging.INFO and second.getMessage() == "could not store covers: ContentTooLargeError"
    assert "secret name" not in caplog.text


def test_a_hook_that_fails_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    after: list[StorageEvent] = []

    @world.manager.on_event
    def fail(event: StorageEvent) -> None:
        raise RuntimeError("no connection to the collector")

    world.manager.on_event(after.append)
    world.add(report=b"kept")
    assert "an event hook of the storage manager failed" in caplog.text and len(after) == 1
    world.check()


def test_a_manager_without_models_tells_too() -> None:
    manager = StorageManager({"m": "memory://"}, {"documents": StoragePolicy("documents", "m")})
    told: list[StorageEvent] = []
    manager.on_event(told.append)
    manager.store("documents", b"1")
    assert _told(told) == [("stored", "documents", "m", 1)]
