"""Working off the outbox: what is deleted, what stays, and what is written down of a failure."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, text, update

from granite_storage import BackendError, StoragePolicy, StoredObjectRef
from granite_storage.backends.base import Ability
from granite_storage.deletion import told
from granite_storage.orm import outbox as outbox_module
from tests.orm.outboxes import freed, make_due, outbox_in, work
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def free(world: World, *contents: bytes) -> None:
    """Let rows with these contents be deleted while the storage refuses to delete."""
    keys = [world.add(report=content) for content in contents]
    with world.session() as session:
        for key in keys:
            session.delete(session.get_one(world.Document, key))
        session.commit()


def refuse(error: Exception) -> Any:
    def before_delete(location: str) -> None:
        raise error

    return before_delete


def paused(row: Any) -> timedelta:
    """For how long the last failure put a row off."""
    pause: timedelta = row.not_before - row.freed_at
    return pause


# Failures


def test_what_fails_stays_and_the_commit_does_not_fail(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.backend.before_delete = refuse(PermissionError("https://user:secret@store/x?signature=s3cret"))
    with caplog.at_level(logging.WARNING, "granite_storage"):
        free(world, b"a", b"bb")
    rows = freed(world)
    assert [(row.size, row.attempts, row.last_error) for row in rows] == [
        (1, 1, "PermissionError"),  # what a foreign error says may hold a secret
        (2, 1, "PermissionError"),
    ]
    assert all(row.not_before > row.freed_at for row in rows)
    assert world.contents() == [b"a", b"bb"]
    world.backend.before_delete = lambda location: None
    assert work(world).rows == []  # not due yet
    make_due(world)
    assert len(work(world).deleted) == 2
    assert freed(world) == []
    assert world.objects() == set()


def test_an_error_of_our_own_is_written_down_as_it_is(world: World) -> None:
    world.backend.before_delete = refuse(BackendError("object lock until 2030"))
    free(world, b"a")
    assert [row.last_error for row in freed(world)] == ["object lock until 2030"]


def test_told_is_short() -> None:
    assert len(told(BackendError("x" * 10_000))) == 500
    assert told(ValueError("secret")) == "ValueError"


def test_each_failure_puts_it_off_for_longer_up_to_a_day(world: World) -> None:
    world.backend.before_delete = refuse(PermissionError())
    free(world, b"a")
    pauses = [paused(freed(world)[0])]
    for _ in range(3):
        make_due(world)
        work(world)
        pauses.append(paused(freed(world)[0]))
    assert all(later > earlier * 1.5 for earlier, later in pairwise(pauses))
    with world.engine.begin() as connection:
        connection.execute(update(outbox_in(world)).values(attempts=5000, not_before=None))
    work(world)
    (row,) = freed(world)
    assert row.attempts == 5001
    assert timedelta(hours=23) < paused(row) < timedelta(hours=25)


def test_one_failure_keeps_no_other_from_being_deleted(world: World) -> None:
    kept = world.manager.store("documents", b"kept").location

    def keep_one(location: str) -> None:
        if location == kept:
            raise PermissionError

    world.backend.abilities = world.backend.abilities - {Ability.BATCH_DELETE}  # type: ignore[misc]
    world.backend.before_delete = keep_one
    keys = [world.add(report=b"a"), world.add(report=b"b")]
    with world.engine.begin() as connection:
        connection.execute(
            outbox_in(world).insert().values(backend="memory", location=kept, storage_key="documents", size=4)
        )
    with world.session() as session:
        for key in keys:
            session.delete(session.get_one(world.Document, key))
        session.commit()
    done = work(world)
    assert [one.ref.location for one in done.failed] == [kept]
    assert [row.location for row in freed(world)] == [kept]
    assert world.objects() == {kept}


def test_a_row_of_an_unknown_backend_is_put_off_and_the_others_are_done(world: World) -> None:
    world.backend.before_delete = refuse(PermissionError())
    free(world, b"a", b"b")
    world.backend.before_delete = lambda location: None
    outbox = outbox_in(world)
    strange = freed(world)[0].id
    with world.engine.begin() as connection:
        connection.execute(
            update(outbox).where(outbox.c.id == strange).values(backend="gone", storage_key="gone", attempts=0)
        )
    make_due(world)
    assert [ref.size for ref in work(world).deleted] == [1]
    (row,) = freed(world)
    assert (row.id, row.attempts) == (strange, 1)
    assert "Unknown backend: 'gone'" in row.last_error
    assert row.not_before is not None


# What a row names


def test_an_object_that_a_row_names_again_stays_and_its_outbox_row_goes(world: World) -> None:
    world.backend.before_delete = refuse(PermissionError())
    free(world, b"a")
    world.backend.before_delete = lambda location: None
    (row,) = freed(world)
    named = f'{{"storage_key": "documents", "backend": "memory", "location": "{row.location}", "size": 1}}'
    named = named.replace('"size": 1', '"size": 1, "checksum": ""')
    value = "CAST(:ref AS JSONB)" if world.engine.dialect.name == "postgresql" else ":ref"
    with world.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO document (id, report) VALUES (99, {value})"), {"ref": named})
    make_due(world)
    done = work(world)
    assert (done.named, done.deleted) == (1, [])
    assert freed(world) == []
    world.check()


def test_an_object_that_is_gone_already_is_done(world: World) -> None:
    world.backend.before_delete = refuse(PermissionError())
    free(world, b"a")
    world.backend.before_delete = lambda location: None
    for row in freed(world):
        world.backend.delete(StoredObjectRef("documents", "memory", row.location, row.size, ""))
    make_due(world)
    work(world)
    assert freed(world) == []


# Batches


def test_all_that_is_due_goes_in_batches_by_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.backend.before_delete = refuse(PermissionError())
    free(world, b"a", b"bb", b"ccc", b"dddd", b"eeeee")
    world.backend.before_delete = lambda location: None
    make_due(world)
    monkeypatch.setattr(outbox_module, "BATCH", 2)
    ids = [row.id for row in freed(world)]
    assert [row.id for row in work(world).rows] == ids[:2]
    assert [row.id for row in work(world, after=ids[2]).rows] == ids[3:]
    assert [row.id for row in work(world).rows] == ids[2:3]
    assert world.objects() == set()


def test_a_commit_that_frees_more_than_a_batch_is_done_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "BATCH", 2)
    free(world, b"a", b"bb", b"ccc", b"dddd", b"eeeee")
    assert freed(world) == []
    assert world.objects() == set()


def test_the_work_of_a_commit_leaves_the_rows_of_others(world: World) -> None:
    policy = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=1))
    with world.manager.override(policies={"documents": policy}):
        free(world, b"retained")
    make_due(world)
    free(world, b"a")
    assert world.contents() == [b"retained"]
    assert [row.size for row in freed(world)] == [8]
