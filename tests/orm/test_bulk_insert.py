from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, delete, func, insert, null, select, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column, synonym

from granite_storage import FileColumn, FileMapped, StoredFile, UnassignableError, Upload, UploadConsumedError
from granite_storage.exceptions import BulkStatementError, ContentTooLargeError, ObjectNotFoundError
from granite_storage.orm import bulk_conflict
from granite_storage.orm.sites import Site
from tests.orm.worlds import OneShot, World

SPECIFIC: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def specific_insert(world: World) -> Any:
    """The database's own insert(), which knows about conflicts."""
    return SPECIFIC[world.engine.dialect.name].insert(world.Document)


def ignoring(world: World) -> Any:
    """An INSERT that leaves out the rows that are there already."""
    match world.engine.dialect.name:
        case "sqlite":
            return insert(world.Document).prefix_with("OR IGNORE")
        case "postgresql":
            return specific_insert(world).on_conflict_do_nothing()
        case _:
            return insert(world.Document).prefix_with("IGNORE")


def updating(world: World, *excluded: str, **values: Any) -> Any:
    """An INSERT that changes the rows that are there already, to what was ``excluded`` or to ``values``."""
    statement = specific_insert(world)
    given = statement.inserted if world.engine.dialect.name == "mariadb" else statement.excluded
    values |= {name: given[name] for name in excluded}
    if world.engine.dialect.name == "mariadb":
        return statement.on_duplicate_key_update(**values)
    return statement.on_conflict_do_update(index_elements=["title"], set_=values)


# Where the files stand


def test_files_in_the_parameters_are_stored(world: World) -> None:
    with world.session() as session:
        session.execute(
            insert(world.Document),
            [{"title": "a", "report": b"a"}, {"title": "b", "report": b"b", "cover": io.BytesIO(b"cover")}, {}],
        )
        session.execute(insert(world.Document), {"title": "c", "report": "c"})
        session.commit()
        reports = session.scalars(select(world.Document.report).order_by(world.Document.id))
        assert [report and report.read() for report in reports] == [b"a", b"b", None, b"c"]
    assert len(world.objects()) == 4
    world.check()


@pytest.mark.parametrize("key", ["name", "attribute", "column"])
def test_files_in_values_are_stored(world: World, key: str) -> None:
    report: Any = {"name": "report", "attribute": world.Document.report, "column": world.Document.__table__.c.report}[
        key
    ]
    with world.session() as session:
        session.execute(insert(world.Document).values({report: Upload(b"a", "a.txt")}))
        session.execute(insert(world.Document).values({report: b"b"}).values(title="b"))
        session.commit()
        assert session.scalars(select(world.Document.report)).first().filename == "a.txt"
    assert world.contents() == [b"a", b"b"]
    world.check()


@pytest.mark.parametrize("key", ["name", "attribute", "column"])
def test_files_in_several_values_rows_are_stored(world: World, key: str) -> None:
    report: Any = {"name": "report", "attribute": world.Document.report, "column": world.Document.__table__.c.report}[
        key
    ]
    with world.session() as session:
        session.execute(insert(world.Document).values([{report: b"a"}, {report: None}, {report: b"b"}]))
        session.commit()
    assert world.contents() == [b"a", b"b"]
    world.check()


def test_files_in_values_rows_without_keys_are_stored(world: World) -> None:
    columns = [column.name for column in world.Document.__table__.columns]
    rows = [tuple({"id": n, "report": b"%d" % n}.get(name) for name in columns) for n in (1, 2)]
    with world.session() as session:
        session.execute(insert(world.Document).values(rows))
        session.execute(insert(world.Document).values(tuple({"id": 3, "report": b"3"}.get(name) for name in columns)))
        session.commit()
    assert world.contents() == [b"1", b"2", b"3"]
    world.check()


def test_files_that_parameters_bind_into_values_are_stored(world: World) -> None:
    statement = insert(world.Document).values(report=bindparam("one"))
    with world.session() as session:
        session.execute(statement, [{"one": b"a"}, {"one": b"b"}])
        session.execute(statement, {"one": b"c"}, execution_options={"dml_strategy": "raw"})
        session.execute(insert(world.Document).values(report=bindparam("one", b"d")))
        session.commit()
    assert world.contents() == [b"a", b"b", b"c", b"d"]
    world.check()


def test_parameters_of_a_raw_insert_are_columns(world: World) -> None:
    with world.session() as session:
        options = {"dml_strategy": "raw"}
        session.execute(insert(world.Document), [{"report": b"a"}, {"report": b"b"}], execution_options=options)
        session.commit()
    assert world.contents() == [b"a", b"b"]
    world.check()


def test_the_rows_come_back_with_their_files(world: World) -> None:
    Document = world.Document
    with world.session() as session:
        made = session.scalars(insert(Document).returning(Document), [{"report": b"a"}, {"report": b"b"}]).all()
        assert sorted(document.report.read() for document in made) == [b"a", b"b"]
        assert session.scalars(insert(Document).values(report=b"c").returning(Document.report)).one().read() == b"c"
        several = insert(Document).values([{"report": b"d"}, {"report": b"e"}]).returning(Document.report)
        assert sorted(report.read() for report in session.scalars(several)) == [b"d", b"e"]
        session.commit()
    world.check()


def test_a_joined_class_gets_the_files_of_both_its_tables(world: World) -> None:
    with world.session() as session:
        session.execute(
            insert(world.Author),
            [{"country": "fr", "number": n, "photo": b"photo", "contract": b"contract"} for n in (1, 2)],
        )
        session.commit()
    assert world.contents() == [b"contract", b"contract", b"photo", b"photo"]
    world.check()


def test_attribute_column_and_synonym_name_one_field(world: World, engine: Engine) -> None:
    class Paper(world.Base):  # type: ignore[name-defined,misc]
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents", name="scan_of")
        picture = synonym("scan")

    world.Base.metadata.create_all(engine)
    with world.session() as session:
        session.execute(insert(Paper), [{"scan": b"1"}])
        session.execute(insert(Paper).values(scan=b"2"))
        session.execute(insert(Paper).values(picture=b"3"))
        session.execute(insert(Paper), {"scan_of": b"4"}, execution_options={"dml_strategy": "raw"})
        session.execute(insert(Paper).values([{"scan": b"5"}, {"scan": b"6"}]))
        session.commit()
    assert world.contents() == [b"1", b"2", b"3", b"4", b"5", b"6"]
    world.check()


def test_a_fields_default_is_stored_where_no_file_is_given(world: World, engine: Engine) -> None:
    class Paper(world.Base):  # type: ignore[name-defined,misc]
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None]
        scan: FileMapped[StoredFile | None] = FileColumn("documents", name="scan_of", default=lambda: b"default")

    Paper.__table__.c.title.type.length = 10
    world.Base.metadata.create_all(engine)
    with world.session() as session:
        session.execute(insert(Paper), [{"title": "a"}, {"scan": b"given"}])
        session.execute(insert(Paper).values(title="b"))
        session.execute(insert(Paper).values([{"title": "c"}, {"title": "d"}]))
        session.execute(insert(Paper).values(scan=b"given"))
        session.commit()
    assert world.contents() == [b"default"] * 4 + [b"given"] * 2
    world.check()


# What is given


def test_all_that_can_be_assigned_can_be_inserted(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"path")
    staged = world.Document(report=b"staged").report
    values = [b"bytes", "text", path, io.BytesIO(b"stream"), Upload(b"upload"), staged, OneShot(b"pipe"), None, null()]
    with world.session() as session:
        session.execute(insert(world.Document).values([{"report": value} for value in values]))
        session.commit()
    assert world.contents() == [b"bytes", b"path", b"pipe", b"staged", b"stream", b"text", b"upload"]
    assert staged.staged  # what the caller gave stays as it is
    world.check()


def test_one_stream_in_two_rows_is_read_once_and_gives_two_objects(world: World) -> None:
    stream = OneShot(b"only once")
    with world.session() as session:
        session.execute(insert(world.Document), [{"report": stream}, {"report": stream}])
        session.commit()
    assert world.contents() == [b"only once"] * 2
    world.check()


def test_a_file_of_another_row_is_copied(world: World) -> None:
    key = world.add(report=b"a")
    with world.session() as session:
        file = session.get_one(world.Document, key).report
        session.execute(insert(world.Document), [{"report": file}, {"report": file.ref}])
        session.commit()
    assert world.contents() == [b"a"] * 3
    world.check()


def test_a_file_that_was_stored_before_is_adopted_by_one_row(world: World) -> None:
    stored = world.manager.store("documents", b"a")
    with world.session() as session:
        session.execute(
            insert(world.Document), [{"title": "a", "report": stored}, {"title": "b", "report": stored.ref}]
        )
        session.commit()
    assert stored.location in world.named() and len(world.objects()) == 2
    world.check()


def test_a_stored_file_of_a_pending_object_is_seen_and_copied(world: World) -> None:
    stored = world.manager.store("documents", b"a")
    with world.session() as session:
        session.add(world.Document(report=stored))
        session.execute(insert(world.Document).values(report=stored))
        session.commit()
    assert world.contents() == [b"a"] * 2
    world.check()


@pytest.mark.parametrize("value", [{"location": "x"}, 5])
def test_what_cannot_be_assigned_cannot_be_inserted(world: World, value: Any) -> None:
    with world.session() as session, world.statements() as sent, pytest.raises(UnassignableError):
        session.execute(insert(world.Document), [{"report": b"a"}, {"report": value}])
    assert sent == [] and world.objects() == set()


def test_an_insert_without_files_costs_nothing(world: World) -> None:
    world.add(title="a", report=b"a")
    Document = world.Document
    with world.session() as session:
        with world.statements() as sent:
            session.execute(insert(Document), [{"title": "b"}, {"title": "c", "report": None}])
            session.execute(insert(Document).values(title="d", report=None))
        assert {one.split()[0] for one in sent} <= {"BEGIN", "INSERT"}
        assert not any("outbox" in one for one in sent)
        session.execute(insert(world.Folder).from_select(["id"], select(Document.id)))
        session.commit()
        assert session.scalar(select(func.count()).select_from(world.Folder)) == 4
    world.check()


def test_an_insert_from_a_select_is_left_alone(world: World) -> None:
    world.add(title="a", report=b"a")
    Document = world.Document
    copied = select(func.concat(Document.title, "b") if world.engine.dialect.name != "sqlite" else Document.title + "b")
    with world.session() as session:
        session.execute(insert(Document).from_select(["title"], copied))
        session.commit()
        assert session.scalars(select(Document.title).order_by(Document.title)).all() == ["a", "ab"]
    world.check()


# The transaction


def test_a_rollback_discards_what_was_stored_and_the_statement_works_again(world: World) -> None:
    parameters = [{"title": "a", "report": io.BytesIO(b"a")}, {"title": "b", "report": b"b"}]
    given = [dict(row) for row in parameters]
    values = insert(world.Document).values(title="c", report=Upload(b"c"))
    rows = insert(world.Document).values([{"title": "d", "report": b"d"}, {"title": "e", "report": b"e"}])
    with world.session() as session:
        for end in (session.rollback, session.commit):
            session.execute(insert(world.Document), parameters)
            session.execute(values)
            session.execute(rows)
            assert len(world.objects()) == 5
            end()
            world.check()
    assert parameters == given
    assert world.contents() == [b"a", b"b", b"c", b"d", b"e"]


def test_a_retry_whose_source_cannot_be_read_again_says_so(world: World) -> None:
    for value in (OneShot(b"a"), Upload(OneShot(b"b"))):
        with world.session() as session:
            session.execute(insert(world.Document), [{"report": value}])
            session.rollback()
        with world.session() as session, pytest.raises(UploadConsumedError):
            session.execute(insert(world.Document), [{"report": value}])
    world.check()


def test_a_retry_after_a_statement_that_failed_stores_the_same_bytes(world: World) -> None:
    world.add(title="a")
    stream = io.BytesIO(b"0123")
    stream.seek(2)
    with world.session() as session:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(world.Document), [{"title": "a", "report": stream}])
        session.execute(insert(world.Document), [{"title": "b", "report": stream}])
        session.commit()
    assert world.contents() == [b"23"]
    world.check()


@pytest.mark.parametrize("outcome", ["released", "rolled back"])
def test_a_savepoint_decides_what_becomes_of_an_insert_in_it(world: World, outcome: str) -> None:
    with world.session() as session:
        session.execute(insert(world.Document), [{"report": b"a"}])
        savepoint = session.begin_nested()
        session.execute(insert(world.Document), [{"report": b"b"}])
        savepoint.commit() if outcome == "released" else savepoint.rollback()
        session.commit()
    assert world.contents() == ([b"a", b"b"] if outcome == "released" else [b"a"])
    world.check()


def test_an_insert_that_fails_leaves_nothing_though_the_transaction_commits(world: World) -> None:
    world.add(title="a")
    with world.session() as session:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(world.Document), [{"title": "a", "report": b"x"}])
        session.execute(insert(world.Document), [{"title": "b", "report": b"b"}])
        session.commit()
    assert world.contents() == [b"b"]
    world.check()


@pytest.mark.databases("sqlite")
def test_an_insert_that_fails_without_a_savepoint_leaves_nothing(world: World) -> None:
    world.add(title="a")
    with world.session() as session:
        session.execute(insert(world.Document), [{"title": "b", "report": b"b"}])
        stream = io.BytesIO(b"x")
        with pytest.raises(IntegrityError):
            session.execute(insert(world.Document), [{"title": "a", "report": stream}])
        session.execute(insert(world.Document), [{"title": "c", "report": stream}])
        session.commit()
    assert world.contents() == [b"b", b"x"]
    world.check()


def test_an_upload_that_fails_sends_nothing_and_leaves_nothing(world: World) -> None:
    with world.session() as session:
        with world.statements() as sent, pytest.raises(ContentTooLargeError):
            session.execute(insert(world.Document), [{"report": b"a"}, {"cover": b"x" * 1001}])
        assert not any(one.startswith("INSERT") for one in sent)
        session.commit()
    assert world.objects() == set()


def test_an_adoption_of_nothing_is_refused(world: World) -> None:
    stored = world.manager.store("documents", b"a")
    world.manager.delete(stored.ref)
    with world.session() as session:
        with pytest.raises(ObjectNotFoundError):
            session.execute(insert(world.Document), [{"report": b"x"}, {"report": stored}])
        session.commit()
    assert world.objects() == set()


def test_uploads_are_stored_before_the_flush_and_the_statement(world: World) -> None:
    order: list[str] = []
    world.backend.before_put = lambda key: order.append("put")
    with world.session() as session, world.statements() as sent:
        session.add(world.Folder(id=7))
        session.execute(insert(world.Document), [{"report": b"a", "folder_id": 7}])
        assert [one.split()[2] for one in sent if one.startswith("INSERT")] == ["folder", "document"]
        world.backend.before_put = lambda key: order.append(f"put after {len(sent)} statements")
        sent.clear()
        session.add(world.Folder(id=8))
        session.execute(insert(world.Document), [{"report": b"b", "folder_id": 8}])
        assert order == ["put", "put after 0 statements"]
        session.commit()
    world.check()


# Rows that are there already


@pytest.mark.parametrize("form", ["parameters", "values", "rows"])
def test_what_was_stored_for_a_row_that_is_left_out_is_deleted(world: World, form: str) -> None:
    world.add(title="a", report=b"kept")
    rows = [{"title": "a", "report": b"left out"}, {"title": "b", "report": b"written"}]
    with world.session() as session:
        match form:
            case "parameters":
                session.execute(ignoring(world), rows)
            case "values":
                for row in rows:
                    session.execute(ignoring(world).values(row))
            case "rows":
                session.execute(ignoring(world).values(rows))
        assert len(world.objects()) == 3
        session.commit()
    assert world.contents() == [b"kept", b"written"]
    world.check()


def test_what_was_stored_for_a_row_that_is_updated_instead_is_deleted(world: World) -> None:
    key = world.add(title="a", report=b"kept")
    with world.session() as session:
        session.execute(updating(world, folder_id=None), [{"title": "a", "report": b"x"}])
        session.execute(updating(world, folder_id=None), [{"title": "b", "report": b"written"}])
        session.commit()
        assert session.get_one(world.Document, key).report.read() == b"kept"
    assert world.contents() == [b"kept", b"written"]
    world.check()


@pytest.mark.parametrize("value", ["upload", "excluded", "none"])
def test_do_update_of_a_file_field_is_refused(world: World, value: str) -> None:
    world.add(title="a", report=b"kept")
    with world.session() as session:
        values = {"upload": {"report": b"x"}, "none": {"report": None}}.get(value, {})
        excluded = ["report"] if value == "excluded" else []
        with pytest.raises(BulkStatementError, match=r"DO UPDATE sets file field document\.report.*trigger=True"):
            session.execute(updating(world, *excluded, **values), [{"title": "a", "report": b"x"}])
        session.commit()
    assert world.contents() == [b"kept"]
    world.check()


def test_do_update_of_a_file_field_with_triggers_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_conflict, "triggers_stand", lambda connection, column: True)
    world.add(title="a")
    with world.session() as session:
        session.execute(updating(world, "report"), [{"title": "a", "report": b"x"}])
        session.execute(updating(world, "report"), [{"title": "b", "report": b"y"}])
        session.commit()
    assert world.contents() == [b"x", b"y"]
    world.check()


@pytest.mark.databases("sqlite")
def test_insert_or_replace_is_refused_unless_triggers_see_the_row_that_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = insert(world.Document).prefix_with("OR REPLACE")
    with world.session() as session:
        for row in ({"title": "a", "report": b"x"}, {"title": "a"}):
            with pytest.raises(BulkStatementError, match="REPLACE deletes the row"):
                session.execute(statement, [row])
        session.execute(text("PRAGMA recursive_triggers = ON"))
        monkeypatch.setattr(bulk_conflict, "triggers_stand", lambda connection, column: True)
        session.execute(statement, [{"title": "a", "report": b"x"}])
        session.commit()
    assert world.contents() == [b"x"]
    world.check()


# Together with the rest


def test_the_prefix_that_an_insert_stored_under_is_marked_as_this_databases(world: World) -> None:
    site = Site.of(world.engine, world.Base.metadata)
    with world.session() as session:
        session.execute(insert(world.Document), [{"report": b"a"}])
        assert not world.manager.ownership.knows(world.backend, "docs", site)
        session.commit()
    assert world.manager.ownership.knows(world.backend, "docs", site)


def test_what_a_statement_inserted_lives_and_dies_with_its_row(world: World) -> None:
    Document = world.Document
    with world.session() as session:
        session.execute(insert(Document), [{"title": name, "report": name.encode()} for name in "abcd"])
        session.execute(delete(Document).where(Document.title == "a"))
        session.execute(update(Document).where(Document.title == "b").values(report=None))
        session.delete(session.scalars(select(Document).where(Document.title == "c")).one())
        session.commit()
    assert world.contents() == [b"d"]
    world.check()


def test_what_was_written_by_an_insert_that_may_skip_rows_is_not_told_as_freed(world: World) -> None:
    told: list[Any] = []
    world.manager.observers.append(told.append)
    with world.session() as session:
        session.execute(updating(world, "title"), [{"title": "a", "report": b"x"}])
        session.commit()
    assert [(len(change.stored), change.freed) for change in told] == [(1, ())]
    world.check()
