"""Events tell what happens to objects, to hooks and to the log, and say nothing that is secret."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from granite_storage import StorageManager, StoragePolicy, Upload
from granite_storage.events import StorageEvent
from granite_storage.exceptions import BackendError, ContentTooLargeError, ObjectNotFoundError
from granite_storage.gc import StorageGarbageCollector
from tests.maintenance.ages import put_old
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


def _told(events: list[StorageEvent]) -> list[tuple[str, str, str, int]]:
    assert all(event.seconds >= 0 for event in events)
    return [(event.kind, event.policy, event.backend, event.bytes) for event in events]


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
    put_old(world.backend, 25 * timedelta(hours=1))
    put_old(world.backend, 90 * DAY)
    events.clear()
    world.manager.sweep(world.engine)
    StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=False)
    assert [(event.kind, event.objects) for event in events] == [
        ("deleted", 1),
        ("swept", 1),
        ("deleted", 1),
        ("collected", 1),
    ]


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
