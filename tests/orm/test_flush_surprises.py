"""What listeners, the unit of work and unusual models do behind a flush's back: no file is lost, shared or left."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column, validates
from sqlalchemy.orm.attributes import flag_modified

from granite_storage import ConfigurationError, FileColumn, FileMapped, StorageError, StoredFile
from tests.orm.worlds import World, in_thread


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


# Fields that are touched but not changed


@pytest.mark.parametrize("touch", ["assign", "merge", "flag_modified"])
def test_a_field_that_is_touched_but_not_changed_gives_nothing_up(world: World, touch: str) -> None:
    key = world.add(report=b"abc", title="a")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        if touch == "assign":
            document.report = document.report
        elif touch == "merge":
            session.expunge(document)
            session.get_one(world.Document, key)
            document = session.merge(document)
        else:
            flag_modified(document, "report")
        document.title = "b"
        other = world.Document(report=document.report)
        session.add(other)
        session.commit()
        assert other.report.location != document.report.location
    assert world.contents() == [b"abc", b"abc"]
    world.check()


def test_assigning_what_a_field_holds_sends_no_statement_more(world: World) -> None:
    key = world.add(report=b"abc", title="a")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report, document.title = document.report, "b"
        with world.statements() as sent:
            session.commit()
    assert [statement.split()[0] for statement in sent] == ["UPDATE"]


def test_a_stale_value_that_is_written_again_by_force_is_an_error_and_not_a_dangling_ref(world: World) -> None:
    key = world.add(report=b"first")
    with world.session(expire_on_commit=False) as session:
        document = session.get_one(world.Document, key)
        session.commit()
        with world.session() as other:
            other.get_one(world.Document, key).report = b"second"
            other.commit()
        flag_modified(document, "report")
        with pytest.raises(StorageError):
            session.commit()
        session.rollback()
    assert world.contents() == [b"second"]
    world.check()


# Deletes that do not happen


def soft_delete(session: Session) -> None:
    """The usual recipe: rows are marked, not deleted."""

    def mark(session: Session, context: Any, instances: Any) -> None:
        for one in list(session.deleted):
            one.title = "deleted"
            session.add(one)

    event.listen(session, "before_flush", mark)


def test_a_soft_deleted_row_keeps_its_file(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        soft_delete(session)
        session.delete(session.get_one(world.Document, key))
        session.flush()
        assert not session.info["granite_storage.ledgers"][session.get_transaction()].freed
        session.commit()
    assert world.contents() == [b"abc"]
    world.check()


@pytest.mark.parametrize("how", ["soft delete", "row switch"])
def test_a_move_from_a_row_that_keeps_its_file_is_refused(world: World, how: str) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        file = document.report
        if how == "soft delete":
            soft_delete(session)
        else:
            session.add(world.Document(id=key, title="new"))  # an UPDATE, which leaves report alone
        session.add(world.Document(report=file))
        session.delete(document)
        with pytest.raises(StorageError, match=r"document\.report.*moved"):
            session.commit()
        session.rollback()
    assert world.contents() == [b"abc"]
    world.check()


def test_a_row_switch_that_sets_the_field_frees_the_old_object(world: World) -> None:
    key = world.add(report=b"old", cover=b"cover")
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.add(world.Document(id=key, report=None, cover=b"new"))
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


# Listeners that act after ours


def test_a_later_listener_that_replaces_an_upload_leaves_only_its_own(world: World) -> None:
    def resize(session: Session, context: Any, instances: Any) -> None:
        for one in session.new:
            one.report = b"resized"

    with world.session() as session:
        event.listen(session, "before_flush", resize)
        session.add(world.Document(report=b"original"))
        session.commit()
    assert world.contents() == [b"resized"]
    world.check()


def test_a_later_listener_that_clears_a_field_frees_its_object(world: World) -> None:
    key = world.add(report=b"old", title="a")

    def clear(session: Session, context: Any, instances: Any) -> None:
        for one in session.dirty:
            one.report = None

    with world.session() as session:
        event.listen(session, "before_flush", clear)
        session.get_one(world.Document, key).title = "b"
        session.commit()
    assert world.objects() == set()
    world.check()


def test_mapper_listeners_of_the_application_are_called_before_ours(world: World) -> None:
    def thumbnail(mapper: Any, connection: Any, target: Any) -> None:
        target.cover = b"thumb"

    def clear(mapper: Any, connection: Any, target: Any) -> None:
        target.report = None

    event.listen(world.Document, "before_insert", thumbnail)
    event.listen(world.Document, "before_update", clear)
    with world.session() as session:
        document = world.Document(report=b"abc", cover=b"staged and replaced")
        session.add(document)
        session.commit()
        assert world.contents() == [b"abc", b"thumb"]
        document.title = "changed"
        session.commit()
    assert world.contents() == [b"thumb"]
    world.check()


@pytest.mark.parametrize("what", ["upload", "move"])
def test_an_orphan_that_was_given_a_file_takes_it_along(world: World, what: str) -> None:
    with world.session() as session:
        folder = world.Folder(documents=[world.Document(report=b"old")])
        other = world.Document(report=b"moving")
        session.add_all([folder, other])
        session.commit()
        document = folder.documents[0]
        folder.documents.remove(document)
        if what == "upload":
            document.report = b"new"
        else:
            document.report, other.report = other.report, None
        session.commit()
    assert world.contents() == ([b"moving"] if what == "upload" else [])
    world.check()


def test_an_object_that_a_listener_takes_out_of_the_flush_is_staged_again(world: World) -> None:
    def expunge(session: Session, context: Any, instances: Any) -> None:
        for one in list(session.new):
            if one.title == "unwanted":
                session.expunge(one)

    with world.session() as session:
        event.listen(session, "before_flush", expunge)
        unwanted = world.Document(title="unwanted", report=b"unwanted")
        session.add_all([unwanted, world.Document(report=b"wanted")])
        session.commit()
        assert world.contents() == [b"wanted"]
        unwanted.title = "wanted now"
        session.add(unwanted)
        session.commit()
    assert world.contents() == [b"unwanted", b"wanted"]
    world.check()


# Retries


@pytest.mark.parametrize("reload", ["refresh", "savepoint"])
def test_a_retry_works_though_the_row_was_loaded_again_meanwhile(world: World, reload: str) -> None:
    with world.session() as session:
        document = world.Document(report=b"abc")
        session.add(document)
        session.flush()
        if reload == "refresh":
            session.refresh(document)
        else:
            savepoint = session.begin_nested()
            document.title = "changed"
            savepoint.rollback()
            assert document.report.read() == b"abc"
        session.rollback()
        session.add(document)
        session.commit()
        assert document.report.read() == b"abc"
    world.check()


# Adoption


def test_a_file_is_adopted_by_one_of_two_open_transactions(world: World) -> None:
    if world.engine.dialect.name == "sqlite":
        engines = [world.engine]  # a second writer would have to wait
    else:
        engines = [world.engine, world.engine]
    stored = world.manager.store("documents", b"abc")
    sessions = [Session(engine) for engine in engines]
    documents = [world.Document(report=stored) for _ in sessions]
    for session, document in zip(sessions, documents, strict=True):
        session.add(document)
        session.flush()
    first = sessions[0]
    first.commit()
    first.delete(documents[0])
    first.commit()
    for session in sessions:
        session.commit()
        session.close()
    world.check()


@pytest.mark.databases("postgresql", "mariadb")
def test_the_ref_of_a_row_that_is_not_committed_is_copied(world: World) -> None:
    with world.session() as one, world.session() as other:
        document = world.Document(report=b"abc")
        one.add(document)
        one.flush()
        other.add(world.Document(report=document.report.ref))
        other.flush()
        one.rollback()
        other.commit()
    assert world.contents() == [b"abc"]
    world.check()


def test_an_adoption_check_that_meets_a_missing_table_leaves_the_transaction_alone(world: World) -> None:
    from sqlalchemy import Column, Integer, MetaData, Table

    from granite_storage import StoredObjectRefType

    elsewhere = MetaData()
    Table("elsewhere", elsewhere, Column("id", Integer, primary_key=True), Column("f", StoredObjectRefType("covers")))
    world.manager.attach(elsewhere)
    with world.session() as session:
        session.add(world.Document(title="first", report=b"first"))
        session.flush()
        with session.begin_nested():
            session.add(world.Document(title="second", report=world.manager.store("documents", b"second")))
        session.commit()
    assert world.contents() == [b"first", b"second"]
    world.check()


def test_an_engine_with_options_is_the_same_database(world: World) -> None:
    world.manager.attach(world.Base, engine=world.engine)
    stored = world.manager.store("documents", b"abc")
    with Session(world.engine.execution_options(logging_token="tenant")) as session:
        session.add(world.Document(report=stored))
        session.flush()
        session.add(world.Document(report=stored))
        session.commit()
    world.check()
    assert world.contents() == [b"abc", b"abc"]


# Sessions and databases


def test_binds_by_declarative_base_find_their_database(world: World) -> None:
    with Session(binds={world.Base: world.engine}) as session:
        document = world.Document(report=world.manager.store("documents", b"old"))
        session.add(document)
        session.commit()
        document.report = b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_an_idle_connection_of_the_session_is_asked_when_the_pool_is_exhausted(world: World, database: Any) -> None:
    engine = database.engine(pool_size=1, max_overflow=0, pool_timeout=1)
    key = world.add(report=b"old")
    with engine.connect() as connection:
        with Session(connection) as session:
            session.get_one(world.Document, key).report = b"new"
            session.commit()
        assert world.contents() == [b"new"]
    engine.dispose()
    world.check()


@pytest.mark.databases("postgresql")
def test_a_table_that_only_the_transaction_could_see_keeps_its_objects(world: World, caplog: Any) -> None:
    from sqlalchemy import text

    with world.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("SET LOCAL search_path TO tenant"))
        world.Base.metadata.create_all(connection)
    with world.engine.begin() as connection:
        world.Base.metadata.drop_all(connection)
    with world.session() as session:
        session.execute(text("SET LOCAL search_path TO tenant"))
        document = world.Document(report=b"old")
        session.add(document)
        session.commit()
        session.execute(text("SET LOCAL search_path TO tenant"))
        document.report = b"new"
        session.commit()
    assert world.contents() == [b"new", b"old"]
    assert "search_path" in caplog.text


def test_a_key_that_the_database_spells_differently_is_found(world: World) -> None:
    with world.session(expire_on_commit=False) as session:
        document = world.Document(id="5", report=b"old")  # type: ignore[arg-type]
        try:
            session.add(document)
            session.commit()
        except Exception:
            session.rollback()
            return  # a database that takes no such key has no such row
        document.report = b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


# Models


def test_a_validator_may_give_what_can_be_assigned(world: World) -> None:
    class Validated(world.Base):  # type: ignore[name-defined]
        __tablename__ = "validated"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")
        logo: FileMapped[StoredFile | None] = FileColumn("documents", default=b"default logo")

        @validates("report")
        def check_report(self, key: str, value: Any) -> Any:
            return b"validated"

    world.Base.metadata.create_all(world.engine)
    with world.session() as session:
        session.add(Validated(report=b"given"))
        session.commit()
    assert world.contents() == [b"default logo", b"validated"]
    world.check()


def test_an_attribute_that_is_a_file_column_of_two_tables_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match=r"Special\.report.*general.*special"), warnings.catch_warnings():
        warnings.simplefilter("ignore")

        class General(world.Base):  # type: ignore[name-defined]
            __tablename__ = "general"
            id: Mapped[int] = mapped_column(primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")

        class Special(General):
            __tablename__ = "special"
            id: Mapped[int] = mapped_column(ForeignKey("general.id"), primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")


@pytest.mark.databases("mariadb")
def test_generated_columns_follow_a_schema_translate_map(world: World, database: Any) -> None:
    from sqlalchemy import text

    schema = f"{database.url.database}_tenant"
    with world.engine.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {schema}"))
    try:
        tenant = world.engine.execution_options(schema_translate_map={None: schema})
        world.Base.metadata.drop_all(world.engine)
        world.Base.metadata.create_all(tenant)
        with Session(tenant) as session, world.statements() as sent:
            document = world.Document(report=b"old")
            session.add(document)
            session.commit()
            document.report = b"new"
            session.commit()
        assert world.contents() == [b"new"]
        assert any(f"{schema}.document.report__location IN" in statement for statement in sent)
    finally:
        with world.engine.begin() as connection:
            connection.execute(text(f"DROP DATABASE {schema}"))


# Threads and memory


def test_flushes_in_the_pools_own_threads_do_not_wait_for_each_other(world: World) -> None:
    calls = [lambda n=n: world.manager.pool.run_all([(lambda: None)] * 3) for n in range(8)]
    done = threading.Event()

    def run() -> None:
        world.manager.pool.run_all(calls)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(30)


@pytest.mark.databases("postgresql", "mariadb")
def test_the_first_flushes_of_several_threads_come_at_once(world: World) -> None:
    together = threading.Barrier(4)

    def add(n: int) -> None:
        with world.session() as session:
            session.add(world.Document(report=str(n).encode()))
            together.wait(30)
            session.commit()

    for join in [in_thread(lambda n=n: add(n)) for n in range(4)]:
        join()
    assert world.contents() == [b"0", b"1", b"2", b"3"]
    world.check()


def test_a_session_lets_go_of_what_it_flushed(world: World) -> None:
    with world.session() as session:
        session.add(world.Document(report=b"abc"))
        session.commit()
        assert "granite_storage.flush" not in session.info
        session.add(world.Document(report=b"abc", cover=bytes(1001)))
        with pytest.raises(StorageError):
            session.commit()
        session.rollback()
        assert "granite_storage.flush" not in session.info
        assert session.scalars(select(world.Document)).all()
