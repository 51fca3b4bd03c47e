from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    MetaData,
    String,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    synonym,
    with_loader_criteria,
)

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, Upload
from granite_storage.exceptions import BulkStatementError, StagedValueError, StorageError
from granite_storage.orm import ledger
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import outbox_of
from tests.orm.worlds import FaultyBackend, World, in_thread

SYNCHRONIZE = ["auto", "evaluate", "fetch", False]


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def fill(world: World, count: int = 3) -> list[int]:
    """Documents a0, a1, ... with two files each."""
    with world.session() as session:
        documents = [
            world.Document(title=f"a{n}", report=f"report {n}".encode(), cover=f"cover {n}".encode())
            for n in range(count)
        ]
        session.add_all(documents)
        session.commit()
        return [document.id for document in documents]


def outbox_rows(world: World) -> int:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(outbox)) or 0


# DELETE


@pytest.mark.parametrize("synchronize", SYNCHRONIZE)
def test_a_bulk_delete_frees_the_objects_of_the_rows_it_deletes(world: World, synchronize: Any) -> None:
    fill(world)
    with world.session() as session:
        loaded = session.scalars(select(world.Document)).all()
        deletion = delete(world.Document).where(world.Document.title.in_(["a0", "a1"]))
        session.execute(deletion, execution_options={"synchronize_session": synchronize})
        assert len(world.objects()) == 6  # until the commit
        session.commit()
        assert len(loaded) == 3
    assert world.contents() == [b"cover 2", b"report 2"]
    world.check()
    assert outbox_rows(world) == 0


@pytest.mark.parametrize("synchronize", SYNCHRONIZE)
def test_query_delete_frees_as_well(world: World, synchronize: Any) -> None:
    fill(world)
    with world.session() as session:
        assert session.query(world.Document).filter_by(title="a0").delete(synchronize_session=synchronize) == 1
        session.commit()
    assert len(world.objects()) == 4
    world.check()


def test_a_bulk_delete_of_many_rows_costs_one_locking_select_and_one_insert(world: World) -> None:
    fill(world, 300)
    with world.session() as session:
        with world.statements() as sent:
            session.execute(delete(world.Document).where(world.Document.title != "a7"))
        session.commit()
    sent = [one for one in sent if not one.startswith(("BEGIN", "ROLLBACK"))]
    assert [one.split()[0] for one in sent] == ["SELECT", "DELETE", "INSERT"]
    if world.engine.dialect.name != "sqlite":
        assert "FOR UPDATE" in sent[0]
    assert world.contents() == [b"cover 7", b"report 7"]
    world.check()


def test_a_bulk_delete_gives_rowcount_and_returning_as_without_files(world: World) -> None:
    fill(world)
    with world.session() as session:
        assert session.execute(delete(world.Document).where(world.Document.title == "a0")).rowcount == 1
        deletion = delete(world.Document).where(world.Document.title == "a1").returning(world.Document.title)
        assert session.scalars(deletion).all() == ["a1"]
        session.commit()
    world.check()
    assert len(world.objects()) == 2


def test_a_bulk_delete_takes_bound_parameters(world: World) -> None:
    fill(world)
    with world.session() as session:
        session.execute(delete(world.Document).where(world.Document.title == bindparam("one")), {"one": "a1"})
        session.commit()
    assert len(world.objects()) == 4
    world.check()


def test_a_bulk_delete_by_several_parameter_sets_frees_for_each(world: World) -> None:
    fill(world)
    deletion = delete(world.Document).where(world.Document.title == bindparam("one"))
    with world.session() as session:
        session.execute(
            deletion,
            [{"one": "a0"}, {"one": "a2"}],
            execution_options={"dml_strategy": "orm", "synchronize_session": False},
        )
        session.commit()
    assert world.contents() == [b"cover 1", b"report 1"]
    world.check()


def test_the_same_statement_can_be_executed_twice(world: World) -> None:
    fill(world)
    deletion = delete(world.Document).where(world.Document.title == "a0")
    for _ in range(2):
        with world.session() as session:
            session.execute(deletion)
            session.rollback()
            session.execute(deletion)
            session.commit()
        world.check()


# UPDATE


@pytest.mark.parametrize("synchronize", SYNCHRONIZE)
def test_a_bulk_update_to_null_frees_only_that_field(world: World, synchronize: Any) -> None:
    fill(world)
    with world.session() as session:
        loaded = session.scalars(select(world.Document).order_by(world.Document.id)).all()
        session.execute(
            update(world.Document).where(world.Document.title != "a2").values(report=None),
            execution_options={"synchronize_session": synchronize},
        )
        if synchronize:
            assert [document.report is None for document in loaded] == [True, True, False]
        session.commit()
    assert world.contents() == [b"cover 0", b"cover 1", b"cover 2", b"report 2"]
    world.check()


@pytest.mark.parametrize(
    "form", ["null", "attribute", "parameters", "bound", "ordered", "query", "bound value", "many", "alias"]
)
def test_null_may_be_said_in_any_form(world: World, form: str) -> None:
    fill(world)
    Document = world.Document
    statement = update(Document).where(Document.title == "a1")
    with world.session() as session:
        match form:
            case "null":
                session.execute(statement.values(report=null()))
            case "attribute":
                session.execute(statement.values({Document.report: None, "title": "b"}))
            case "parameters":
                session.execute(statement, {"report": None, "title": "b"})
            case "bound":
                session.execute(statement.values(report=bindparam("none")), {"none": None})
            case "bound value":
                session.execute(statement.values(report=bindparam("none", None)))
            case "ordered":
                session.execute(statement.ordered_values((Document.title, "b"), (Document.report, None)))
            case "query":
                session.query(Document).filter(Document.title == "a1").update({"report": None})
            case "many":
                session.execute(
                    update(Document).where(Document.title == bindparam("one")).values(report=None),
                    [{"one": "a1"}, {"one": "none"}],
                    execution_options={"dml_strategy": "orm", "synchronize_session": False},
                )
            case "alias":
                other = aliased(Document)
                session.execute(
                    update(other).where(other.title == "a1").values({other.report: None}),
                    execution_options={"synchronize_session": False},
                )
        session.commit()
    assert b"report 1" not in world.contents() and len(world.objects()) == 5
    world.check()


def test_an_update_that_touches_no_file_field_costs_no_statement(world: World) -> None:
    key, *_ = fill(world)
    Document = world.Document
    with world.session() as session, world.statements() as sent:
        session.execute(update(Document).where(Document.title == "a1").values(title="b"))
        session.execute(update(Document), [{"id": key, "title": "c"}])
        session.query(Document).filter_by(title="a2").update({"title": "d"})
        assert [one.split()[0] for one in sent if not one.startswith("BEGIN")] == ["UPDATE"] * 3
        session.commit()
    assert sum(one.startswith(("SELECT", "INSERT")) for one in sent) == 0


def test_an_update_by_primary_key_frees_what_each_row_names(world: World) -> None:
    first, second, third = fill(world)
    with world.session() as session:
        with world.statements() as sent:
            session.execute(
                update(world.Document),
                [
                    {"id": first, "report": None},
                    {"id": second, "title": "b"},
                    {"id": third, "report": None, "cover": None},
                ],
            )
        outbox = outbox_of(world.Base.metadata)
        assert outbox is not None
        assert len(session.scalars(select(outbox.c.id)).all()) == 3
        session.commit()
    words = [one.split()[0] for one in sent if not one.startswith("BEGIN")]
    assert (words.count("SELECT"), words.count("INSERT")) == (1, 1)
    assert world.contents() == [b"cover 0", b"cover 1", b"report 1"]
    world.check()


def test_an_update_by_primary_key_may_set_null_in_the_statement(world: World) -> None:
    first, _, third = fill(world)
    with world.session() as session:
        session.execute(update(world.Document).values(report=None), [{"id": first, "title": "b"}, {"id": third}])
        session.commit()
    assert world.contents() == [b"cover 0", b"cover 1", b"cover 2", b"report 1"]
    world.check()


def test_an_update_by_composite_primary_key_reaches_the_tables_of_a_joined_class(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Author(country="fr", number=n, photo=b"photo", contract=b"contract") for n in range(2))
        session.commit()
        session.execute(
            update(world.Author),
            [
                {"country": "fr", "number": 0, "photo": None, "contract": None},
                {"country": "fr", "number": 1, "photo": None, "contract": None},
            ],
        )
        session.commit()
    assert world.objects() == set()
    world.check()


# Whose rows: the criteria


def test_criteria_of_with_loader_criteria_apply(world: World) -> None:
    fill(world)
    Document = world.Document
    with world.session() as session:
        session.execute(delete(Document).options(with_loader_criteria(Document, Document.title != "a1")))
        with world.statements() as sent:
            session.execute(
                update(Document).values(report=None).options(with_loader_criteria(Document, Document.title != "a1"))
            )
        assert not any(one.startswith("INSERT") for one in sent)
        session.commit()
    assert world.contents() == [b"cover 1", b"report 1"]
    world.check()


def test_criteria_that_an_application_adds_to_selects_hide_no_row(world: World) -> None:
    fill(world)
    Document = world.Document

    def only_some(execution: Any) -> None:
        if execution.is_select:
            execution.statement = execution.statement.options(with_loader_criteria(Document, Document.title == "none"))

    with world.session() as session:
        event.listen(session, "do_orm_execute", only_some)
        session.execute(delete(Document), execution_options={"synchronize_session": False})
        session.commit()
    assert world.objects() == set()
    world.check()


def test_criteria_that_a_later_listener_adds_to_deletes_cost_no_object(world: World) -> None:
    fill(world)
    Document = world.Document

    def narrow(execution: Any) -> None:
        if execution.is_delete:
            execution.statement = execution.statement.where(Document.title == "a1")

    with world.session() as session:
        event.listen(session, "do_orm_execute", narrow)
        session.execute(delete(Document))
        session.commit()
    assert world.contents() == [b"cover 0", b"cover 2", b"report 0", b"report 2"]
    world.check()
    assert outbox_rows(world) == 0


def test_criteria_with_subqueries_and_relationships_find_their_rows(world: World) -> None:
    with world.session() as session:
        session.add_all(
            world.Folder(id=n, documents=[world.Document(title=f"a{n}", report=b"%d" % n)]) for n in range(1, 5)
        )
        session.commit()
        folders = select(world.Folder.id).where(world.Folder.id == 1)
        session.execute(
            delete(world.Document).where(world.Document.folder_id.in_(folders)),
            execution_options={"synchronize_session": "fetch"},
        )
        session.execute(
            update(world.Document).where(world.Document.folder.has(world.Folder.id == 2)).values(report=None),
            execution_options={"synchronize_session": "fetch"},
        )
        session.commit()
    assert world.contents() == [b"3", b"4"]
    world.check()


def test_criteria_on_a_second_table_lock_and_free_the_first(world: World) -> None:
    with world.session() as session:
        session.add_all(
            world.Folder(id=n, documents=[world.Document(title=f"a{n}", report=b"%d" % n)]) for n in range(1, 4)
        )
        session.commit()
        Document, Folder = world.Document, world.Folder
        with world.statements() as sent:
            session.execute(
                update(Document).where(Document.folder_id == Folder.id, Folder.id == 1).values({Document.report: None}),
                execution_options={"synchronize_session": False},
            )
        if world.engine.dialect.name == "postgresql":
            assert any(one.endswith("FOR UPDATE OF document") for one in sent)
        if world.engine.dialect.name != "sqlite":  # it has no DELETE USING
            session.execute(
                delete(Document).where(Document.folder_id == Folder.id, Folder.id == 2),
                execution_options={"synchronize_session": False, "is_delete_using": True},
            )
        session.commit()
    assert world.contents() == ([b"2", b"3"] if world.engine.dialect.name == "sqlite" else [b"3"])
    world.check()


def test_a_delete_of_a_joined_subclass_frees_what_its_own_table_holds(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Author(country="fr", number=n, photo=b"photo", contract=b"contract") for n in range(2))
        session.commit()
        session.execute(delete(world.Author).where(world.Author.number == 1))
        session.commit()
    assert world.contents() == [b"contract", b"photo", b"photo"]
    with world.session() as session:
        session.execute(delete(world.Person).where(world.Person.number == 1))
        session.commit()
    assert world.contents() == [b"contract", b"photo"]
    world.check()


@pytest.mark.filterwarnings("ignore:.*cartesian product:sqlalchemy.exc.SAWarning")
@pytest.mark.databases("postgresql", "mariadb")
def test_a_criterion_on_the_parents_table_frees_all_rows_that_it_deletes(world: World) -> None:
    """Without a join the parent's table is another table: if any row of it fits, every row is deleted."""
    with world.session() as session:
        session.add_all(
            world.Author(country=country, number=1, photo=b"photo", contract=b"contract") for country in ("fr", "de")
        )
        session.commit()
        session.execute(
            delete(world.Author).where(world.Person.__table__.c.country == "de"),
            execution_options={"synchronize_session": False, "is_delete_using": True},
        )
        session.commit()
    assert world.contents() == [b"photo", b"photo"]
    world.check()


def test_single_table_inheritance_frees_the_rows_and_the_fields_of_the_class(world: World, engine: Engine) -> None:
    class Animal(world.Base):  # type: ignore[name-defined,misc]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        photo: FileMapped[StoredFile | None] = FileColumn("documents")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        pedigree: FileMapped[StoredFile | None] = FileColumn("documents")
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        passport: FileMapped[StoredFile | None] = FileColumn("documents")
        __mapper_args__ = {"polymorphic_identity": "cat"}

    world.Base.metadata.create_all(engine)
    with world.session() as session:
        session.add_all(
            [
                Animal(photo=b"animal"),
                Dog(photo=b"dog", pedigree=b"pedigree"),
                Cat(photo=b"cat", passport=b"passport"),
            ]
        )
        session.commit()
        session.execute(update(Dog).values(photo=None))
        session.commit()
        assert world.contents() == [b"animal", b"cat", b"passport", b"pedigree"]
        session.execute(delete(Cat))
        session.commit()
        assert world.contents() == [b"animal", b"pedigree"]
        session.execute(delete(Animal))  # and the columns that only a subclass maps
        session.commit()
    assert world.objects() == set()
    world.check()


def test_a_statement_that_is_told_to_run_as_core_frees_by_its_own_criteria(world: World) -> None:
    fill(world)
    Document = world.Document
    with world.session() as session:
        session.execute(
            delete(Document).options(with_loader_criteria(Document, Document.title == "none")),
            execution_options={"dml_strategy": "core_only", "synchronize_session": False},
        )
        session.commit()
    assert world.objects() == set()
    world.check()


@pytest.mark.databases("sqlite", "postgresql")  # MariaDB takes no alias there
def test_an_aliased_class_is_deleted_from_with_its_files(world: World) -> None:
    fill(world)
    other = aliased(world.Document)
    with world.session() as session:
        session.execute(delete(other).where(other.title == "a0"), execution_options={"synchronize_session": False})
        session.commit()
    assert len(world.objects()) == 4
    world.check()


# The transaction


def test_a_rollback_keeps_what_a_bulk_delete_freed(world: World) -> None:
    fill(world)
    with world.session() as session:
        session.execute(delete(world.Document))
        session.rollback()
    assert len(world.objects()) == 6
    world.check()


@pytest.mark.parametrize("outcome", ["released", "rolled back"])
def test_a_savepoint_decides_what_a_bulk_delete_in_it_frees(world: World, outcome: str) -> None:
    fill(world)
    with world.session() as session:
        session.execute(delete(world.Document).where(world.Document.title == "a0"))
        savepoint = session.begin_nested()
        session.execute(delete(world.Document).where(world.Document.title == "a1"))
        savepoint.commit() if outcome == "released" else savepoint.rollback()
        session.commit()
    assert len(world.objects()) == (2 if outcome == "released" else 4)
    world.check()


def test_what_is_pending_is_flushed_before_it_is_read(world: World) -> None:
    key, *_ = fill(world)
    with world.session() as session:
        session.get_one(world.Document, key).report = b"new"
        session.add(world.Document(title="a9", report=b"newer"))
        session.execute(delete(world.Document))
        session.commit()
    assert world.objects() == set()
    world.check()


def test_without_autoflush_nothing_is_flushed(world: World) -> None:
    fill(world)
    for options in ({"autoflush": False}, {}):
        with world.session(autoflush=bool(options)) as session:
            session.add(world.Document(title="a9", report=b"new"))
            session.execute(delete(world.Document), execution_options={"synchronize_session": False, **options})
            assert len(session.new) == 1
            session.commit()
        assert world.contents() == [b"new"]
        world.check()


def test_a_statement_that_fails_frees_nothing(world: World) -> None:
    fill(world)
    with world.session() as session:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(
                update(world.Document).where(world.Document.title != "a0").values(title="a0", report=None),
                execution_options={"synchronize_session": False},
            )
        session.commit()
    assert len(world.objects()) == 6
    assert outbox_rows(world) == 0
    world.check()


@pytest.mark.databases("sqlite")
def test_a_statement_that_fails_writes_nothing_into_the_outbox_though_the_transaction_goes_on(world: World) -> None:
    fill(world)
    with world.session() as session:
        with pytest.raises(IntegrityError):
            session.execute(
                update(world.Document).values(title="a0", report=None), execution_options={"synchronize_session": False}
            )
        outbox = outbox_of(world.Base.metadata)
        assert outbox is not None
        assert session.scalars(select(outbox.c.id)).all() == []
        session.commit()
    assert len(world.objects()) == 6
    world.check()


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("statement", ["delete", "update"])
def test_a_replace_that_commits_before_a_bulk_statement_reads_leaves_no_leak(world: World, statement: str) -> None:
    """Another session has replaced the file and holds the row's lock when the bulk statement comes."""
    key = world.add(title="a", report=b"old")
    replaced, reading = threading.Event(), threading.Event()

    def replace() -> None:
        with world.session() as session:
            session.get_one(world.Document, key).report = b"new"
            session.flush()
            replaced.set()
            assert reading.wait(30)
            session.commit()

    def note(connection: Any, cursor: Any, sent: str, *rest: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if "FOR UPDATE" in sent and "outbox" not in sent:
            reading.set()  # it is about to wait for the lock, or gets it later: both must do

    join = in_thread(replace)
    assert replaced.wait(30)
    event.listen(world.engine, "before_cursor_execute", note)
    with world.session() as session:
        Document = world.Document
        session.execute(delete(Document) if statement == "delete" else update(Document).values(report=None))
        session.commit()
    join()
    event.remove(world.engine, "before_cursor_execute", note)
    assert world.objects() == set()
    world.check()


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("statement", ["delete", "update", "by key"])
def test_a_replace_cannot_come_between_the_read_and_the_statement(world: World, statement: str) -> None:
    key = world.add(title="a", report=b"old")
    started = threading.Event()
    joins = []

    def replace() -> None:
        with world.session() as session:
            started.set()
            row = session.scalar(
                select(world.Document).where(world.Document.id == key).with_for_update()
            )  # waits until the bulk statement's transaction has ended
            if row is not None:
                row.report = b"new"
            session.commit()

    def come_between(connection: Any, cursor: Any, sent: str, *rest: Any) -> None:
        if sent.startswith(("DELETE FROM document", "UPDATE document")) and not joins:
            joins.append(in_thread(replace))
            assert started.wait(30)

    event.listen(world.engine, "before_cursor_execute", come_between)
    with world.session() as session:
        Document = world.Document
        match statement:
            case "delete":
                session.execute(delete(Document))
            case "update":
                session.execute(update(Document).values(report=None))
            case "by key":
                session.execute(update(Document), [{"id": key, "report": None}])
        session.commit()
    joins[0]()
    event.remove(world.engine, "before_cursor_execute", come_between)
    assert world.contents() == ([] if statement == "delete" else [b"new"])
    world.check()


def test_a_session_that_routes_writes_by_statement_writes_the_outbox_where_the_rows_are(world: World) -> None:
    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
            if self._flushing or (clause is not None and (clause.is_dml)):
                return world.engine
            return replica

    replica = create_engine("sqlite://", creator=lambda: pytest.fail("the replica was asked"))
    fill(world)
    with Routing() as session:
        session.execute(delete(world.Document), execution_options={"synchronize_session": False})
        session.commit()
    assert world.objects() == set()
    world.check()


# Much, and odd


def test_of_very_many_freed_objects_only_the_outbox_remembers_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_REMEMBERED", 4)
    fill(world, 10)
    with world.session() as session:
        session.execute(delete(world.Document).where(world.Document.title.in_(["a0", "a1", "a2"])))
        with session.begin_nested():
            session.execute(delete(world.Document))
        session.commit()
    assert len(world.objects()) == 16
    assert outbox_rows(world) == 16


def test_without_an_outbox_the_ledger_remembers_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_REMEMBERED", 2)

    class Base(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    class Paper(Base):
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    backend = FaultyBackend()
    StorageManager({"memory": backend}, {"documents": StoragePolicy("documents", "memory")}).attach(Base)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Paper(scan=b"x") for _ in range(5))
        session.commit()
        session.execute(delete(Paper))
        session.commit()
    assert list(backend.iter_locations()) == []


def test_a_ref_that_names_no_known_object_is_logged_and_left(world: World, caplog: pytest.LogCaptureFixture) -> None:
    first, second, _ = fill(world)
    with world.engine.begin() as connection:
        raw = "UPDATE document SET report = '{}' WHERE id = {}"
        connection.execute(text(raw.format('{"no": "ref"}', first).replace(":", "\\:")))
        other = '{"storage_key": "x", "backend": "gone", "location": "x/y", "size": 1, "content_type": "a/b"}'
        connection.execute(text(raw.format(other, second).replace(":", "\\:")))
    with world.session() as session:
        session.execute(delete(world.Document), execution_options={"synchronize_session": False})
        session.commit()
    assert caplog.text.count("a row gives up what names no object that is known") == 2
    assert world.contents() == [b"report 0", b"report 1"]  # what those rows named before is no longer known


def test_classes_of_two_metadatas_are_freed_each_into_its_own_outbox(world: World, engine: Engine) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox="other_outbox", registry="other_fields"))

    class Paper(Other):
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        document_id: Mapped[int]
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    world.manager.attach(Other)
    Other.metadata.create_all(engine)
    key, *_ = fill(world)
    with world.session() as session:
        session.add_all([Paper(document_id=key, scan=b"scan"), Paper(document_id=0, scan=b"other")])
        session.commit()
        documents = select(world.Document.id)
        with world.statements() as sent:
            session.execute(
                delete(Paper).where(Paper.document_id.in_(documents)), execution_options={"synchronize_session": False}
            )
            session.execute(delete(world.Document), execution_options={"synchronize_session": False})
        assert [one.split()[2] for one in sent if one.startswith("INSERT")] == [
            "other_outbox",
            "granite_storage_outbox",
        ]
        session.commit()
        assert world.contents() == [b"other"]
        session.execute(delete(Paper))
        session.commit()
    assert world.objects() == set()


def test_attribute_column_and_synonym_name_one_field(world: World, engine: Engine) -> None:
    class Paper(world.Base):  # type: ignore[name-defined,misc]
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents", name="scan_of")
        picture = synonym("scan")

    world.Base.metadata.create_all(engine)
    with world.session() as session:
        papers = [Paper(scan=b"%d" % n) for n in range(5)]
        session.add_all(papers)
        session.commit()
        keys = [paper.id for paper in papers]
        off = {"synchronize_session": False}
        session.execute(update(Paper).where(Paper.id == keys[0]).values(scan=None), execution_options=off)
        session.execute(update(Paper).where(Paper.id == keys[1]).values(picture=None), execution_options=off)
        session.execute(update(Paper).where(Paper.id == keys[2]).values({Paper.picture: None}), execution_options=off)
        session.execute(update(Paper).where(Paper.id == keys[3]), {"scan_of": None}, execution_options=off)
        session.execute(update(Paper), [{"id": keys[4], "scan": None}])
        session.commit()
    assert world.objects() == set()
    world.check()


# What is refused


@pytest.mark.parametrize("what", ["upload", "file", "ref", "bytes", "column", "expression", "json null"])
@pytest.mark.parametrize("way", ["values", "parameters", "bound", "by key", "query"])
def test_a_bulk_update_of_a_file_field_takes_null_only(world: World, what: str, way: str) -> None:
    key, *_ = fill(world)
    Document = world.Document
    with world.session() as session:
        file = session.get_one(Document, key).report
        value: Any = {
            "upload": Upload(b"x"),
            "file": file,
            "ref": file.ref,
            "bytes": b"x",
            "column": Document.cover,
            "expression": func.coalesce(Document.cover, Document.report),
            "json null": {},
        }[what]
        statement = update(Document).where(Document.title == "a1")
        is_sql = what in ("column", "expression")
        with world.statements() as sent, pytest.raises(BulkStatementError, match=r"document\.report.*flush"):
            match way:
                case "values":
                    session.execute(statement.values(report=value))
                case "parameters":
                    session.execute(statement, {"report": value})
                case "bound":
                    bound = {} if is_sql else {"one": value}
                    session.execute(statement.values(report=value if is_sql else bindparam("one")), bound)
                case "by key":
                    session.execute(update(Document), [{"id": key, "report": value}])
                case "query":
                    session.query(Document).update({Document.report: value})
        assert sent == []
        session.commit()
    assert len(world.objects()) == 6
    world.check()


def test_a_value_that_the_parameters_of_an_update_by_key_bind_is_refused(world: World) -> None:
    first, second, _ = fill(world)
    with world.session() as session:
        file = session.get_one(world.Document, first).report
        with pytest.raises(BulkStatementError):
            session.execute(update(world.Document).values(report=bindparam("one")), [{"id": second, "one": file}])
        session.rollback()
    world.check()


def test_the_error_tells_what_it_is_about(world: World) -> None:
    with world.session() as session, pytest.raises(StorageError) as caught:
        session.execute(update(world.Document).values(report=world.Document.scan))
    assert str(caught.value) == (
        "UPDATE of Document: file field document.report cannot be set to another column, since each row needs an "
        "object of its own; load the objects, assign a file to each and flush; a bulk UPDATE sets a file field to "
        "None only"
    )


@pytest.mark.databases("postgresql")
def test_criteria_that_change_rows_themselves_are_refused(world: World) -> None:
    fill(world)
    folders = delete(world.Folder).returning(world.Folder.id).cte("gone")
    statement = delete(world.Document).where(world.Document.folder_id.in_(select(folders.c.id)))
    with world.session() as session, pytest.raises(BulkStatementError, match="one after the other"):
        session.execute(statement, execution_options={"synchronize_session": False})
    world.check()


def test_a_schema_map_of_the_statement_alone_is_refused(world: World) -> None:
    with world.session() as session:
        with pytest.raises(BulkStatementError, match="schema_translate_map"):
            session.execute(delete(world.Document), execution_options={"schema_translate_map": {None: "tenant"}})
        session.rollback()
        connection = session.connection(execution_options={"schema_translate_map": {"unused": "x"}})
        assert connection is not None
        options = {"schema_translate_map": {"unused": "x"}}
        session.execute(delete(world.Document), execution_options=options)


# What is none of ours


def test_a_core_statement_is_left_alone(world: World) -> None:
    fill(world)
    with world.session() as session, world.statements() as sent:
        session.execute(delete(world.Document.__table__).where(world.Document.title == "a0"))
        session.execute(update(world.Document.__table__).values(report=None))
        assert [one.split()[0] for one in sent if not one.startswith("BEGIN")] == ["DELETE", "UPDATE"]
        session.rollback()


def test_a_class_without_file_fields_is_left_alone(world: World) -> None:
    with world.session() as session, world.statements() as sent:
        session.execute(delete(world.Folder))
        session.execute(insert(world.Folder), [{"id": 1}])
        assert [one.split()[0] for one in sent if not one.startswith("BEGIN")] == ["DELETE", "INSERT"]


def staged_statements(world: World) -> Iterator[Any]:
    table = world.Document.__table__
    file = world.Document(report=b"x").report
    for value in (file, Upload(b"x"), b"x"):
        yield insert(table), {"report": value}
        yield insert(table), [{"report": None}, {"report": value}]
        yield insert(table).values(report=value), None
        yield insert(table).values([{"report": None}, {"report": value}]), None
        yield update(table).values(report=value), None
        yield update(table), {"report": value}
        yield update(table).where(table.c.id == bindparam("key")), [{"key": 1, "report": value}]


def test_a_staged_value_that_reaches_a_core_statement_is_refused(world: World) -> None:
    for statement, parameters in staged_statements(world):
        with world.engine.connect() as connection, pytest.raises(StagedValueError, match=r"document\.report"):
            connection.execute(statement, parameters)
        with world.session() as session, pytest.raises(StagedValueError, match=r"document\.report"):
            session.execute(statement, parameters)
    assert world.objects() == set()


def test_a_staged_value_in_the_legacy_bulk_methods_is_refused(world: World) -> None:
    key, *_ = fill(world)
    Document = world.Document
    with world.session() as session:
        for call in (
            lambda: session.bulk_insert_mappings(Document, [{"report": Upload(b"x")}]),
            lambda: session.bulk_save_objects([Document(report=b"x")]),
            lambda: session.bulk_update_mappings(Document, [{"id": key, "report": b"x"}]),
        ):
            with pytest.raises(StagedValueError, match=r"document\.report"):
                call()
            session.rollback()
    assert len(world.objects()) == 6
    world.check()


# What others do, and what is told


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("statement", ["delete", "update"])
@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_row_that_comes_in_between_is_not_lost_silently(world: World, isolation_level: str, statement: str) -> None:
    world.add(title="a", report=b"1")
    Document = world.Document
    engine = world.engine.execution_options(isolation_level=isolation_level)
    with Session(engine) as session:

        @event.listens_for(session, "do_orm_execute", once=True)
        def come_in_between(execution: Any) -> None:
            with world.session() as other:
                if world.engine.dialect.name == "mariadb":
                    other.execute(text("SET innodb_lock_wait_timeout = 1"))
                other.add(Document(title="b", report=b"2"))
                with contextlib.suppress(OperationalError):  # on MariaDB a lock on the gap keeps it away
                    other.commit()

        changed = delete(Document) if statement == "delete" else update(Document).values(report=None)
        if isolation_level == "READ COMMITTED":
            with pytest.raises(BulkStatementError, match="roll back and try again"):
                session.execute(changed.where(Document.title.in_(["a", "b"])))
            session.rollback()
        session.execute(changed.where(Document.title.in_(["a", "b"])))
        session.commit()
    world.manager.sweep(world.engine)
    world.check()


@pytest.mark.databases("postgresql", "mariadb")  # SQLite has no DELETE with a second table
def test_a_row_that_a_join_finds_more_than_once_is_freed_once(world: World) -> None:
    told: list[Any] = []
    world.manager.observers.append(told.append)
    with world.session() as session:
        session.add_all([world.Folder(), world.Folder(), world.Document(report=b"1")])
        session.commit()
        told.clear()
        session.execute(
            delete(world.Document).where(world.Folder.id >= world.Document.id),
            execution_options={"synchronize_session": False},
        )
        session.commit()
    assert [len(change.freed) for change in told] == [1]
    world.check()
