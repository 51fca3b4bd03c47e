"""Observers are told what the manager does to objects; what they raise harms nobody."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from granite_storage import ContentTooLargeError, StorageManager, StoragePolicy, Upload
from granite_storage.observing import StorageChange


@pytest.fixture
def manager() -> StorageManager:
    return StorageManager({"memory": "memory://"}, {"notes": StoragePolicy("notes", "memory", max_size=10)})


@pytest.fixture
def seen(manager: StorageManager) -> list[StorageChange]:
    """What an observer of the manager is told."""
    changes: list[StorageChange] = []
    manager.observers.append(changes.append)
    return changes


def test_what_the_manager_stores_is_told_once(manager: StorageManager, seen: list[StorageChange]) -> None:
    file = manager.store("notes", Upload(b"a", filename="a"))
    copy = manager.copy("notes", file)
    again = manager.store("notes", file)
    where = {"storage_key": "notes", "model_name": "note", "entity_id": 1, "field_name": "text"}
    put = manager.put_bytes(**where, content=b"b")
    with file.open() as stream:
        put_too = manager.put_stream(**where, stream=stream)
    assert seen == [StorageChange(stored=(ref,)) for ref in (file.ref, copy.ref, again.ref, put, put_too)]


def test_what_was_refused_is_not_told(manager: StorageManager, seen: list[StorageChange]) -> None:
    with pytest.raises(ContentTooLargeError):
        manager.store("notes", b"more than ten bytes")
    assert seen == []


def test_awaited_calls_tell_in_the_thread_that_stored(manager: StorageManager, seen: list[StorageChange]) -> None:
    threads: list[threading.Thread] = []
    manager.observers.append(lambda change: threads.append(threading.current_thread()))
    stored = asyncio.run(manager.astore("notes", b"a"))
    assert seen == [StorageChange(stored=(stored.ref,))]
    assert threads != [threading.current_thread()]


def test_an_observer_that_raises_is_logged_and_the_next_is_told(
    manager: StorageManager, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: StorageChange) -> None:
        raise RuntimeError("the metrics server is down")

    seen: list[StorageChange] = []
    manager.observers += [fail, seen.append]
    stored = manager.store("notes", b"a")
    assert manager.exists(stored.ref)
    assert len(seen) == 1
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "an observer of the storage manager failed")
    assert record.exc_info is not None


def test_an_observer_may_leave_while_it_is_told(manager: StorageManager, seen: list[StorageChange]) -> None:
    def once(change: StorageChange) -> None:
        manager.observers.remove(once)

    manager.observers.insert(0, once)
    manager.store("notes", b"a")
    assert len(seen) == 1
    assert once not in manager.observers
