"""The outbox: what is freed is written down with the change that frees it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, event, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    ConfigurationError,
    FileColumn,
    FileMapped,
    ObjectNotFoundError,
    StorageManager,
    StoragePolicy,
    StoredFile,
)
from granite_storage.orm.database_time import database_time
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import add_outbox, outbox_of
from tests.orm.outboxes import freed, freed_by, make_due, outbox_in, work
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def retaining(world: World, **retain: float) -> Any:
    """For a ``with`` block: documents are kept for so long after they are freed."""
    policy = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(**retain))
    return world.manager.override(policies={"documents": policy})


# What is written


def test_a_replaced_object_is_written_down_in_the_transaction_that_frees_it(world: World) -> None:
    key = world.add(report=b"old")
    (old,) = world.objects()
    with world.session() as session:
        session.get_one(world.Document, key).report = b"new one"
        with session.no_autoflush:
            before = session.scalar(select(database_time()))
        session.flush()
        after = session.scalar(select(database_time()))
        (row,) = freed_by(world, session)
        assert freed(world) == []  # others do not see it yet
        assert (row.backend, row.location, row.storage_key, row.size) == ("memory", old, "documents", 3)
        assert (row.source, row.not_before, row.attempts, row.last_error) == ("document.report", None, 0, None)
        outbox = outbox_in(world)
        within = outbox.c.freed_at.between(before, after)
        assert session.scalar(select(outbox.c.id).where(within)) == row.id
        session.commit()
    assert freed(world) == []
    assert world.contents() == [b"new one"]


@pytest.mark.parametrize("how", ["clear", "delete", "orphan", "cascade"])
def test_whatever_takes_an_object_out_of_its_row_frees_it(world: World, how: str) -> None:
    with world.session() as session:
        folder = world.Folder(documents=[world.Document(report=b"a", scan=b"bb", cover=b"ccc")])
        session.add(folder)
        session.commit()
        document = folder.documents[0]
        if how == "clear":
            document.report = document.scan = document.cover = None
        elif how == "delete":
            session.delete(document)
        elif how == "orphan":
            folder.documents.clear()
        else:
            session.delete(folder)
        session.flush()
        rows = {(row.source, row.size, row.storage_key) for row in freed_by(world, session)}
        assert rows == {
            ("document.report", 1, "documents"),
            ("document.scan", 2, "documents"),
            ("document.cover", 3, "covers"),
        }
        assert len(world.objects()) == 3
        session.commit()
    assert freed(world) == []
    assert world.objects() == set()


def test_the_source_is_the_table_that_has_the_column(world: World) -> None:
    with world.session() as session:
        author = world.Author(country="uk", number=1, photo=b"photo", contract=b"contract")
        session.add(author)
        session.commit()
        session.delete(author)
        session.flush()
        assert sorted(row.source for row in freed_by(world, session)) == ["author.contract", "person.photo"]


def test_it_is_rolled_back_with_the_change(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        session.get_one(world.Document, key).report = b"new"
        session.flush()
        assert len(freed_by(world, session)) == 1
        session.rollback()
        assert freed_by(world, session) == []
    assert world.contents() == [b"old"]
    world.check()


def test_a_savepoint_takes_back_its_own_rows_only(world: World) -> None:
    first, second = world.add(report=b"first"), world.add(report=b"second")
    with world.session() as session:
        session.get_one(world.Document, first).report = None
        session.flush()
        with session.begin_nested() as savepoint:
            session.get_one(world.Document, second).report = None
            session.flush()
            assert [row.size for row in freed_by(world, session)] == [5, 6]
            savepoint.rollback()
        assert [row.size for row in freed_by(world, session)] == [5]
        session.commit()
    assert world.contents() == [b"second"]
    world.check()


def test_a_released_savepoint_deletes_nothing_before_the_outermost_commit(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        with session.begin_nested():
            session.get_one(world.Document, key).report = None
        assert [row.size for row in freed_by(world, session)] == [3]
        assert world.contents() == [b"old"]
        session.commit()
    assert freed(world) == []
    assert world.objects() == set()


def test_a_retained_object_stays_with_its_row_until_it_is_due(world: World) -> None:
    key = world.add(report=b"old", cover=b"cover")
    with retaining(world, days=7), world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = document.cover = None
        session.commit()
        (row,) = freed(world)
        assert (row.source, row.attempts, row.last_error) == ("document.report", 0, None)
        assert abs(row.not_before - row.freed_at - timedelta(days=7)) < timedelta(minutes=1)
        assert world.contents() == [b"old"]
        assert work(world).rows == []
        assert world.contents() == [b"old"]
        make_due(world)
        work(world)
    assert freed(world) == []
    assert world.objects() == set()


# A table that is missing


@pytest.mark.parametrize("change", ["replace", "delete"])
def test_a_missing_outbox_is_named_with_the_way_to_make_it_and_a_retry_works(world: World, change: str) -> None:
    key = world.add(report=b"old")
    outbox_in(world).drop(world.engine)
    with world.session() as session:
        document = session.get_one(world.Document, key)
        other = world.Document(report=b"other")
        session.add(other)
        if change == "replace":
            document.report = b"new"
        else:
            session.delete(document)
        with pytest.raises(ConfigurationError, match=r"granite_storage_outbox.*create_all.*autogenerate.*outbox=None"):
            session.commit()
        session.rollback()
        assert world.contents() == [b"old"]
        world.Base.metadata.create_all(world.engine)
        session.add(other)
        if change == "replace":
            document.report = b"new"
        else:
            session.delete(document)
        session.commit()
    assert world.contents() == ([b"new", b"other"] if change == "replace" else [b"other"])
    world.check()


def test_an_adoption_names_a_missing_outbox_too(world: World) -> None:
    stored = world.manager.store("documents", b"stored")
    outbox_in(world).drop(world.engine)
    with world.session() as session:
        document = world.Document(report=stored)
        session.add(document)
        with pytest.raises(ConfigurationError, match="create_all"):
            session.flush()
        session.rollback()
        world.Base.metadata.create_all(world.engine)
        session.add(document)
        session.commit()
        assert document.report.location == stored.location
    world.check()


def test_rows_that_free_nothing_need_no_outbox(world: World) -> None:
    outbox_in(world).drop(world.engine)
    key = world.add(report=b"report")
    with world.session() as session:
        session.get_one(world.Document, key).title = "a title"
        session.commit()
    world.check()


# Names and places


def declare(metadata: MetaData) -> tuple[type[Any], type[Any]]:
    class Base(DeclarativeBase):
        pass

    Base.metadata = metadata

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: FileMapped[StoredFile | None] = FileColumn("notes")

    return Base, Note


def manager_of(*bases: type[Any]) -> StorageManager:
    manager = StorageManager({"memory": "memory://"}, {"notes": StoragePolicy("notes", "memory")})
    manager.attach(*bases)
    return manager


def rows_of(session: Session, table: Table) -> list[Any]:
    return list(session.execute(select(table)).all())


def test_the_tables_may_have_names_of_the_applications_own(engine: Engine) -> None:
    Base, Note = declare(MetaData(info=metadata_options(outbox="freed_files", registry="file_fields")))
    manager = manager_of(Base)
    Base.metadata.create_all(engine)
    assert set(inspect(engine).get_table_names()) == {"note", "freed_files", "file_fields"}
    with Session(engine) as session:
        note = Note(body=b"old")
        session.add(note)
        session.commit()
        note.body = b"new"
        session.flush()
        assert len(rows_of(session, Base.metadata.tables["freed_files"])) == 1
        session.commit()
        assert rows_of(session, Base.metadata.tables["freed_files"]) == []
        assert list(manager.backends["memory"].iter_locations()) == [note.body.location]


@pytest.mark.databases("postgresql")
def test_the_tables_are_in_the_schema_of_the_metadata(engine: Engine) -> None:
    Base, Note = declare(MetaData(schema="shop"))
    manager = manager_of(Base)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
    Base.metadata.create_all(engine)
    assert {"granite_storage_outbox", "granite_storage_fields"} <= set(inspect(engine).get_table_names("shop"))
    with Session(engine) as session:
        note = Note(body=b"old")
        session.add(note)
        session.commit()
        note.body = None
        session.flush()
        (row,) = rows_of(session, Base.metadata.tables["shop.granite_storage_outbox"])
        assert row.source == "shop.note.body"
        session.commit()
    assert list(manager.backends["memory"].iter_locations()) == []


def test_each_metadata_has_an_outbox_of_its_own(engine: Engine) -> None:
    Base, Note = declare(MetaData())
    Other, _ = declare(MetaData(info=metadata_options(outbox="other_outbox", registry="other_fields")))

    class Letter(Other):  # type: ignore[misc, valid-type]
        __tablename__ = "letter"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: FileMapped[StoredFile | None] = FileColumn("notes")

    manager = manager_of(Base, Other)
    Base.metadata.create_all(engine)
    Other.metadata.create_all(engine)
    with Session(engine) as session:
        note, letter = Note(body=b"note"), Letter(text=b"letter")
        session.add_all([note, letter])
        session.commit()
        note.body = letter.text = None
        session.flush()
        (noted,) = rows_of(session, Base.metadata.tables["granite_storage_outbox"])
        (written,) = rows_of(session, Other.metadata.tables["other_outbox"])
        assert (noted.source, written.source) == ("note.body", "letter.text")
        session.commit()
        assert rows_of(session, Base.metadata.tables["granite_storage_outbox"]) == []
        assert rows_of(session, Other.metadata.tables["other_outbox"]) == []
    assert list(manager.backends["memory"].iter_locations()) == []


def test_a_table_of_that_name_that_is_the_applications_is_not_taken() -> None:
    metadata = MetaData()
    Table("granite_storage_outbox", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(ConfigurationError, match=r"metadata_options\(outbox="):
        declare(metadata)


def test_it_joins_once_and_only_where_there_are_file_fields() -> None:
    plain = MetaData()
    Table("plain", plain, Column("id", Integer, primary_key=True))
    assert outbox_of(plain) is None
    Base, _ = declare(MetaData())
    assert add_outbox(Base.metadata) is outbox_of(Base.metadata)


def test_turned_off_it_joins_nothing_and_deletes_after_the_commit_all_the_same(engine: Engine) -> None:
    Base, Note = declare(MetaData(info=metadata_options(outbox=None)))
    manager = manager_of(Base)
    assert outbox_of(Base.metadata) is None
    Base.metadata.create_all(engine)
    assert set(inspect(engine).get_table_names()) == {"note", "granite_storage_fields"}
    with Session(engine) as session:
        one, two = Note(body=b"one"), Note(body=b"two")
        session.add_all([one, two])
        session.commit()
        one.body = b"new"
        session.delete(two)
        session.flush()
        assert len(list(manager.backends["memory"].iter_locations())) == 3
        session.commit()
        assert list(manager.backends["memory"].iter_locations()) == [one.body.location]


# Two workers


@pytest.mark.databases("postgresql", "mariadb")
def test_rows_that_another_worker_has_locked_are_left_to_it(world: World) -> None:
    keys = [world.add(report=b"first"), world.add(report=b"other")]
    outbox = outbox_in(world)
    worker = world.engine.connect()

    def lock_one(session: Session) -> None:
        worker.execute(select(outbox.c.id).order_by(outbox.c.id).limit(1).with_for_update())

    with world.session() as session:
        for key in keys:
            session.delete(session.get_one(world.Document, key))
        event.listen(session, "after_commit", lock_one)
        session.commit()
    (row,) = freed(world)
    assert world.objects() == {row.location}
    assert work(world).rows == []
    worker.rollback()
    worker.close()
    assert [one.id for one in work(world).rows] == [row.id]
    assert freed(world) == []
    assert world.objects() == set()


# Adoption


def freed_and_kept(world: World) -> StoredFile:
    """A file that a row gave up, and that its policy retains."""
    key = world.add(report=b"kept")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        file = document.report
        _ = file.ref
        document.report = None
        session.commit()
    return file


def test_an_object_that_was_freed_is_copied_and_not_adopted(world: World) -> None:
    """A worker may have asked already whether a row names it, and delete it any moment."""
    with retaining(world, days=7):
        ref = freed_and_kept(world).ref
        with world.session() as session:
            document = world.Document(report=ref)
            session.add(document)
            session.commit()
            assert document.report.location != ref.location and document.report.read() == b"kept"
        assert [row.location for row in freed(world)] == [ref.location]
        make_due(world)
        work(world)
    assert world.contents() == [b"kept"]
    world.check()


def test_an_object_that_this_transaction_freed_is_copied_too(world: World) -> None:
    key = world.add(report=b"kept")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        ref = document.report.ref
        document.report = None
        session.flush()
        document.report = ref
        session.commit()
        assert document.report.location != ref.location
    assert world.contents() == [b"kept"] and freed(world) == []
    world.check()


def test_a_row_that_names_no_object_stays_with_the_reason_and_holds_up_nothing(world: World) -> None:
    """A trigger writes down what a row held, whatever that was."""
    world.add(report=b"kept")
    outbox = outbox_in(world)
    rows = [
        {"backend": "memory", "location": location, "storage_key": "documents", "size": size, "source": "x"}
        for location, size in (("docs/a", -1), ("docs/b", 1))
    ]
    with world.engine.begin() as connection:
        connection.execute(outbox.insert(), rows)
    work(world)
    (row,) = freed(world)
    assert row.location == "docs/a" and "'size'" in row.last_error


def test_an_object_that_is_deleted_already_is_not_adopted(world: World) -> None:
    ref = freed_and_kept(world).ref
    with world.session() as session:
        session.add(world.Document(report=ref))
        with pytest.raises(ObjectNotFoundError, match="to adopt"):
            session.flush()


# What it costs


def told(sent: list[str]) -> list[str]:
    """The first word of each statement, and the table that it is about."""
    words = [statement.replace("\n", " ").split() for statement in sent if statement != "BEGIN"]
    kinds = {"SELECT": "FROM", "INSERT": "INTO", "DELETE": "FROM", "UPDATE": "UPDATE"}
    told = []
    for line in words:
        about = line[line.index(kinds[line[0]]) + 1]
        told.append(f"{line[0]} {about}{' FOR UPDATE' if line[-1] == 'UPDATE' or 'SKIP' in line else ''}")
    return told


CHECKS = ["SELECT document"] * 3 + ["SELECT person", "SELECT author"]


def lock(world: World) -> str:
    return "" if world.engine.dialect.name == "sqlite" else " FOR UPDATE"  # SQLite's lock is the write transaction


def test_rows_that_give_nothing_up_cost_no_statement(world: World) -> None:
    key = world.add(report=b"report")  # the first commit of the process marks the prefix
    with world.session() as session, world.statements() as sent:
        document = session.get_one(world.Document, key)
        assert document.report.read() == b"report"
        assert told(sent) == ["SELECT document"]
        sent.clear()
        document.title = "a title"
        session.commit()
        assert told(sent) == ["UPDATE document"]
        sent.clear()
        session.add(world.Document(report=b"new", scan=b"scan"))
        session.commit()
        assert told(sent) == ["INSERT document"]


def test_a_replacement_costs_a_lock_an_insert_and_the_work_after_the_commit(world: World) -> None:
    keys = [world.add(report=b"old", scan=b"scan") for _ in range(10)]
    with world.session() as session:
        session.delete(session.get_one(world.Document, world.add(report=b"the first of the process")))
        session.commit()  # MariaDB is asked once which columns it has indexed
        documents = [session.get_one(world.Document, key) for key in keys]
        with world.statements() as sent:
            for document in documents:
                document.report = b"new"
                document.scan = None
            session.flush()
        assert told(sent)[0] == f"SELECT document{lock(world)}"
        assert set(told(sent)[1:-1]) == {"UPDATE document"}
        assert told(sent)[-1] == "INSERT granite_storage_outbox"
        with world.statements() as sent:
            session.commit()
        claim, *checks, removal = told(sent)
        assert claim == f"SELECT granite_storage_outbox{lock(world)}"
        assert sorted(checks) == sorted(CHECKS)
        assert removal == "DELETE granite_storage_outbox"
    world.check()


def test_what_is_retained_costs_nothing_after_the_commit(world: World) -> None:
    key = world.add(report=b"old")
    with retaining(world, days=7), world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.flush()
        with world.statements() as sent:
            session.commit()
        assert told(sent) == []


def test_a_flush_locks_once_a_mapper_and_writes_once(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        author = world.Author(country="uk", number=1, photo=b"photo", contract=b"contract")
        session.add(author)
        session.commit()
        document = session.get_one(world.Document, key)
        _ = author.kind
        with world.statements() as sent:
            document.report = None
            author.photo = author.contract = None
            session.flush()
        locks = [one for one in told(sent) if one.startswith("SELECT")]
        assert len(locks) == 2
        assert [one for one in told(sent) if one.startswith("INSERT")] == ["INSERT granite_storage_outbox"]
        session.commit()
    world.check()
