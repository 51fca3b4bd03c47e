from __future__ import annotations

from typing import Any, Literal

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from tests.orm.leftovers import check_clean, check_nothing_lost, contents, finish_outbox, freed, stored
from tests.orm.worlds import World

Mode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
MODES: list[Mode] = ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def is_ended_by_session(mode: Mode, end: str) -> bool:
    """Whether the session's end is the outer transaction's end, too."""
    if mode == "control_fully":
        return end != "left open"
    return end == "rollback" and mode != "create_savepoint"


def is_kept(mode: Mode, end: str, outer: str) -> bool:
    """Whether the change is durable when all is over."""
    if end == "commit":
        return mode == "control_fully" or outer == "commit"
    if end == "rollback" or (end == "close" and mode in ("control_fully", "create_savepoint")):
        return False
    return outer == "commit"


@pytest.mark.parametrize("outer_end", ["commit", "rollback"])
@pytest.mark.parametrize("end", ["commit", "rollback", "close", "left open"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_deleted_before_the_outer_transaction_is_durable(
    world: World, mode: Mode, end: str, outer_end: str
) -> None:
    key, gone = world.add(report=b"old"), world.add(report=b"gone")
    with world.engine.connect() as connection:
        outer = connection.begin()
        session = Session(connection, join_transaction_mode=mode)
        session.get_one(world.Document, key).report = b"new"
        session.delete(session.get_one(world.Document, gone))
        session.add(world.Document(report=b"added"))
        session.flush()
        if end != "left open":
            getattr(session, end)()
        assert outer.is_active is not is_ended_by_session(mode, end)
        if outer.is_active:
            assert contents(world) == [b"added", b"gone", b"new", b"old"]
            getattr(outer, outer_end)()
            if end != "left open":  # and nobody of us hears of the outer transaction's end
                assert contents(world) == [b"added", b"gone", b"new", b"old"]
        session.close()
    check_nothing_lost(world)
    if is_kept(mode, end, outer_end):
        assert {b"added", b"new"} <= set(contents(world))
        finish_outbox(world)
        assert contents(world) == [b"added", b"new"]
        check_clean(world)
    else:
        assert {b"gone", b"old"} <= set(contents(world))
        assert freed(world) == set()
        assert len(world.named()) == 2


@pytest.mark.parametrize("outer_end", ["commit", "rollback"])
def test_freed_objects_of_an_outer_commit_stand_in_the_outbox(world: World, outer_end: str) -> None:
    key = world.add(report=b"old")
    (old,) = world.named()
    with world.engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.get_one(world.Document, key).report = b"new"
            session.commit()
        getattr(outer, outer_end)()
    assert contents(world) == [b"new", b"old"]
    assert freed(world) == ({old} if outer_end == "commit" else set())
    check_nothing_lost(world)


@pytest.mark.parametrize("inner_end", ["commit", "rollback"])
@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint"])
def test_a_session_inside_of_an_outer_savepoint_decides_nothing(
    world: World, mode: Mode, end: str, inner_end: str
) -> None:
    key = world.add(report=b"old")
    with world.engine.connect() as connection:
        outer = connection.begin()
        inner = connection.begin_nested()
        with Session(connection, join_transaction_mode=mode) as session:
            session.get_one(world.Document, key).report = b"new"
            session.flush()
            getattr(session, end)()
        assert contents(world) == [b"new", b"old"]
        getattr(inner, inner_end)()
        assert contents(world) == [b"new", b"old"]
        outer.commit()
    check_nothing_lost(world)
    finish_outbox(world)
    kept = end == "commit" and inner_end == "commit"
    assert contents(world) == ([b"new"] if kept else [b"new", b"old"])  # the new one is the sweep's, if not kept
    assert len(world.named()) == 1


def test_the_pattern_of_test_suites_rolls_all_back(world: World) -> None:
    """A connection, a transaction, sessions that commit into savepoints, and one rollback at the end."""
    key = world.add(report=b"old")

    def in_a_test(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            document = session.get_one(world.Document, key)
            for content in (b"1", b"2", b"3"):
                document.report = content
                session.commit()
                assert document.report.read() == content
            with session.begin_nested():
                document.report = b"4"
            session.rollback()
            assert document.report.read() == b"3"
            session.delete(document)
            session.commit()

    for _ in range(2):
        with world.engine.connect() as connection:
            outer = connection.begin()
            in_a_test(connection)
            outer.rollback()
        check_nothing_lost(world)
        with world.session() as session:
            assert session.get_one(world.Document, key).report.read() == b"old"


def test_a_second_transaction_frees_what_the_first_stored_in_the_same_outer_one(world: World) -> None:
    key = world.add(report=b"old")
    with world.engine.connect() as connection:
        outer = connection.begin()
        for content in (b"one", b"two"):
            with Session(connection, join_transaction_mode="rollback_only") as session:
                session.get_one(world.Document, key).report = content
                session.commit()
        assert contents(world) == [b"old", b"one", b"two"]
        outer.commit()
    assert len(freed(world)) == 2
    finish_outbox(world)
    assert contents(world) == [b"two"]
    check_clean(world)


@pytest.mark.parametrize("mode", MODES)
def test_a_rollback_inside_of_the_outer_block_wedges_nothing(world: World, mode: Mode) -> None:
    """SQLAlchemy then refuses every statement on the connection until the block is left."""
    key = world.add(report=b"old")
    with world.engine.connect() as connection:
        with connection.begin(), Session(connection, join_transaction_mode=mode) as session:
            document: Any = session.get_one(world.Document, key)
            document.report = b"new"
            session.flush()
            session.rollback()
        with Session(connection) as session:  # on the idle connection: it decides by itself
            session.get_one(world.Document, key).report = b"newer"
            session.commit()
    check_nothing_lost(world)
    assert b"newer" in contents(world) and b"old" not in contents(world)


@pytest.mark.parametrize("mode", MODES)
def test_after_the_outer_end_the_same_session_settles_by_itself(world: World, mode: Mode) -> None:
    key = world.add(report=b"old")
    with world.engine.connect() as connection, Session(connection, join_transaction_mode=mode) as session:
        outer = connection.begin()
        session.get_one(world.Document, key).report = b"inside"
        session.commit()
        if outer.is_active:
            outer.commit()
        finish_outbox(world)
        assert contents(world) == [b"inside"]
        session.get_one(world.Document, key).report = b"outside"
        session.commit()
        assert contents(world) == [b"outside"]
    assert len(stored(world)) == 1
    check_clean(world)
