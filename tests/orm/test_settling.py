"""The end of a root transaction: marks, and what is deleted whatever else goes wrong."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, StoredObjectRef
from granite_storage.exceptions import OwnershipError
from granite_storage.orm.registry import database_id, registry_of
from granite_storage.ownership import Ownership, is_mark
from tests.orm.outboxes import freed
from tests.orm.worlds import FaultyBackend, World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def id_of(world: World) -> str:
    registry = registry_of(world.Base.metadata)
    assert registry is not None
    with world.engine.connect() as connection:
        return database_id(connection, registry)


# Marks


def test_a_commit_marks_the_prefixes_where_it_stored_with_its_database(world: World) -> None:
    world.add(report=b"report")
    assert Ownership.databases(world.backend, "docs") == {id_of(world)}
    assert Ownership.databases(world.backend, "covers") == set()
    world.add(cover=b"cover")
    assert Ownership.databases(world.backend, "covers") == {id_of(world)}
    world.check()


def test_a_rollback_marks_nothing(world: World) -> None:
    with world.session() as session:
        session.add(world.Document(report=b"report"))
        session.flush()
        session.rollback()
    assert Ownership.databases(world.backend, "docs") == set()


def test_a_prefix_is_marked_once_a_process(world: World) -> None:
    looked: list[str] = []

    class Looking(FaultyBackend):
        def exists(self, ref: StoredObjectRef) -> bool:
            if is_mark(ref.location):
                looked.append(ref.location)
            return super().exists(ref)

    with world.manager.override(backends={"memory": Looking()}):
        world.add(report=b"report")
        first = list(looked)
        assert [one for one in first if "/databases/" in one] == [f"docs/.granite-storage/databases/{id_of(world)}"]
        world.add(report=b"report")
        assert looked == first


def test_a_prefix_that_was_taken_for_others_is_marked_again(world: World) -> None:
    world.add(report=b"report")
    world.manager.ownership.take(world.backend, world.manager.policies["documents"], {"other"})
    assert Ownership.databases(world.backend, "docs") == {"other"}
    world.add(report=b"report")
    assert Ownership.databases(world.backend, "docs") == {"other", id_of(world)}


def test_a_prefix_that_cannot_be_marked_fails_no_commit_and_is_marked_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(key: str) -> None:
        if is_mark(key):
            raise PermissionError("no marks today")

    world.backend.put_bytes = _with(world.backend.put_bytes, refuse)  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "granite_storage"):
        world.add(report=b"report")
    assert "prefix of policy 'documents' could not be marked" in caplog.text
    world.check()
    del world.backend.put_bytes  # type: ignore[method-assign]
    world.add(report=b"report")
    assert Ownership.databases(world.backend, "docs") == {id_of(world)}


def _with(call: Any, before: Any) -> Any:
    def wrapped(**arguments: Any) -> Any:
        before(arguments["key"])
        return call(**arguments)

    return wrapped


def test_without_a_registry_in_the_database_the_commit_stands_and_the_log_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of(world.Base.metadata)
    assert registry is not None
    registry.drop(world.engine)
    with caplog.at_level(logging.WARNING, "granite_storage"):
        world.add(report=b"report")
    assert "granite_storage_fields" in caplog.text
    world.check()


# Another owner


def test_another_owners_prefix_takes_no_uploads_and_keeps_what_a_row_frees(world: World) -> None:
    key = world.add(report=b"theirs")
    Ownership("shop-prod").take(world.backend, world.manager.policies["documents"], set())
    world.manager.ownership = Ownership("shop-staging")  # a process on a copy of the database
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"ours"
        with pytest.raises(OwnershipError, match="'shop-prod'"):
            session.flush()
        session.rollback()
        assert document.report.read() == b"theirs"
        session.delete(document)
        session.commit()  # the row is this database's to delete; the object is not
    assert world.contents() == [b"theirs"]
    (row,) = freed(world)
    assert row.attempts == 1
    assert "'shop-prod'" in row.last_error and "StorageManager(owner=" in row.last_error


# What is left for the sweep


def test_a_database_that_fails_after_the_commit_fails_nothing_and_the_outbox_keeps_the_work(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key = world.add(report=b"old")

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            raise OperationalError(statement, {}, Exception("gone"))

    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"new"
        session.flush()
        event.listen(world.engine, "before_cursor_execute", fail)
        session.commit()
        event.remove(world.engine, "before_cursor_execute", fail)
        assert document.report.read() == b"new"
    assert "a sweep will" in caplog.text
    assert [row.size for row in freed(world)] == [3]  # its object is gone, and a sweep removes the row


def test_what_a_rolled_back_savepoint_stored_goes_with_what_the_commit_freed(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        session.get_one(world.Document, key).report = None
        with session.begin_nested() as savepoint:
            session.add(world.Document(report=b"undone"))
            session.flush()
            savepoint.rollback()
        session.commit()
    assert world.objects() == set()
    assert freed(world) == []


def test_a_delete_that_fails_fails_no_commit_without_an_outbox_either(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    from sqlalchemy import MetaData

    from granite_storage.orm.options import metadata_options

    class Base(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: FileMapped[StoredFile | None] = FileColumn("notes")

    backend = FaultyBackend()
    StorageManager({"memory": backend}, {"notes": StoragePolicy("notes", "memory")}).attach(Base)
    Base.metadata.create_all(engine)

    def refuse(location: str) -> None:
        raise PermissionError

    with Session(engine) as session, caplog.at_level(logging.WARNING, "granite_storage"):
        note = Note(body=b"old")
        session.add(note)
        session.commit()
        backend.before_delete = refuse
        note.body = b"new"
        session.commit()
        assert note.body.read() == b"new"
    assert "could not delete" in caplog.text
    assert len(list(backend.iter_locations())) == 2
