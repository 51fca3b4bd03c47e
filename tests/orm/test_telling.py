"""Observers are told once what a root transaction did, before anything of it is deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile
from granite_storage.observing import StorageChange
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


@pytest.fixture
def seen(world: World) -> list[StorageChange]:
    """What an observer of the world's manager is told."""
    changes: list[StorageChange] = []
    world.manager.observers.append(changes.append)
    return changes


def test_a_commit_tells_what_it_stored_and_freed(world: World, seen: list[StorageChange]) -> None:
    with world.session() as session:
        document = world.Document(report=b"old", cover=b"cover")
        session.add(document)
        session.commit()
        old, cover = document.report.ref, document.cover.ref
        document.report = b"new"
        document.cover = None
        session.commit()
        new = document.report.ref
    assert seen[0] == StorageChange(stored=(old, cover))
    assert seen[1].stored == (new,)
    assert set(seen[1].freed) == {old, cover}
    assert all(change.durable and not change.discarded for change in seen)
    assert len(seen) == 2


def test_it_is_told_before_anything_is_deleted(world: World) -> None:
    there: list[int] = []
    world.manager.observers.append(lambda change: there.append(len(world.objects())))
    world.add(report=b"old")
    with world.session() as session:
        session.get_one(world.Document, 1).report = b"new"
        session.commit()
    assert there == [1, 2]
    assert world.contents() == [b"new"]


def test_a_rollback_tells_what_is_discarded_and_frees_nothing(world: World, seen: list[StorageChange]) -> None:
    world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, 1)
        document.report = b"new"
        session.flush()
        lost = document.report.ref
        session.rollback()
    assert seen[1:] == [StorageChange(discarded=(lost,))]


def test_savepoints_are_told_with_their_root(world: World, seen: list[StorageChange]) -> None:
    with world.session() as session:
        with session.begin_nested():
            released = world.Document(report=b"released")
            session.add(released)
        with suppress(ZeroDivisionError), session.begin_nested():
            lost = world.Document(report=b"lost")
            session.add(lost)
            session.flush()
            lost_ref = lost.report.ref
            raise ZeroDivisionError
        assert seen == []
        session.commit()
        assert seen == [StorageChange(stored=(released.report.ref,), discarded=(lost_ref,))]


def test_a_transaction_without_files_tells_nothing(world: World, seen: list[StorageChange]) -> None:
    with world.session() as session:
        session.add(world.Document(title="none"))
        session.commit()
    assert seen == []


def test_an_outer_transaction_makes_it_not_durable_yet(world: World, seen: list[StorageChange]) -> None:
    with world.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            document = world.Document(report=b"old")
            session.add(document)
            session.commit()
            old = document.report.ref
            document.report = None
            session.commit()
        outer.rollback()
    assert seen == [StorageChange(stored=(old,), durable=False), StorageChange(freed=(old,), durable=False)]


def test_a_commit_whose_answer_is_lost_tells_nothing(
    world: World, seen: list[StorageChange], monkeypatch: pytest.MonkeyPatch
) -> None:
    do_commit = world.engine.dialect.do_commit

    def lose(connection: Any) -> None:
        do_commit(connection)
        raise ConnectionError("the answer is lost")

    with world.session() as session:
        session.add(world.Document(report=b"x"))
        session.flush()
        monkeypatch.setattr(world.engine.dialect, "do_commit", lose)
        with pytest.raises(ConnectionError):
            session.commit()
        monkeypatch.undo()
    assert seen == []


def test_an_observer_that_raises_fails_no_commit(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(change: StorageChange) -> None:
        raise RuntimeError("the metrics server is down")

    world.add(report=b"old")
    world.manager.observers.append(fail)
    with world.session() as session:
        session.get_one(world.Document, 1).report = b"new"
        session.commit()
    world.check()
    assert world.contents() == [b"new"]
    assert "an observer of the storage manager failed" in caplog.text


def test_an_observer_hears_of_its_own_manager_only(world: World, seen: list[StorageChange]) -> None:
    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: FileMapped[StoredFile | None] = FileColumn("notes")

    other = StorageManager({"memory": "memory://"}, {"notes": StoragePolicy("notes", "memory")})
    other.attach(Base)
    Note.__table__.create(world.engine)
    others: list[StorageChange] = []
    other.observers.append(others.append)
    with world.session() as session:
        document, note = world.Document(report=b"x"), Note(text=b"y")
        session.add_all([document, note])
        session.commit()
        assert seen == [StorageChange(stored=(document.report.ref,))]
        assert others == [StorageChange(stored=(note.text.ref,))]
