"""op.add_file_column, op.drop_file_column and op.rename_file_column."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, MetaData, inspect

from alembic_ext.operations import AddFileColumnOp, DropFileColumnOp, RenameFileColumnOp
from granite_storage import ConfigurationError, FileColumn, portable_storage_ref_type
from granite_storage.orm.options import metadata_options
from granite_storage.orm.triggers import TRIGGER_VERSION
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox, stand


def refs(name: str = "report", **options: object) -> Column:
    return Column(name, portable_storage_ref_type(), **options)


def without_report(**options: object):
    return models(cover=FileColumn("covers", **options))


def with_report(**options: object):
    return models(cover="covers", report=FileColumn("documents", **options))


@pytest.mark.parametrize("triggers", [False, True])
@pytest.mark.parametrize("indexes", [{"location_index": False}, {}, {"indexes": ("size", "filename")}], ids=str)
def test_an_added_column_is_as_create_all_makes_it(project, engine, run, triggers, indexes):
    without_report().metadata.create_all(engine)
    run(lambda op: op.add_file_column("document", refs(), policy="documents", triggers=triggers, **indexes))
    Base = with_report(trigger=triggers, **indexes)
    assert project.differences(Base) == []
    version = TRIGGER_VERSION if triggers else None
    assert ("document", "report", "documents", version) in noted(engine, Base)
    assert stand(engine, Base.Document.__table__.c.report) is triggers


def test_a_dropped_column_frees_its_objects_first(project, engine, run):
    Base = with_report(trigger=True)
    Base.metadata.create_all(engine)
    add_rows(engine, Base.Document.__table__, report="docs/a docs/b", cover="covers/c")
    run(lambda op: op.drop_file_column("document", "report"))
    assert outbox(engine) == [(f"docs/{one}", "documents", 3, "document.report") for one in "ab"]
    assert project.differences(without_report()) == []


def test_a_dropped_column_may_leave_its_objects_in_their_store(project, engine, run):
    indexes = {"location_index": False, "indexes": ["size"]}
    Base = with_report(**indexes)
    Base.metadata.create_all(engine)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    run(lambda op: op.drop_file_column("document", "report", objects="keep", **indexes))
    assert outbox(engine) == []
    assert project.differences(without_report()) == []


def test_values_that_are_no_refs_are_not_freed(engine, run):
    Base = with_report()
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for number, value in enumerate(
            ['{"legacy_inline_text": "x"}', "null", "[1]", '{"location": 1, "backend": "b"}'], 10
        ):
            connection.exec_driver_sql(f"INSERT INTO document (id, title, report) VALUES ({number}, 'x', '{value}')")
        connection.exec_driver_sql("INSERT INTO document (id, title) VALUES (99, 'x')")
    add_rows(engine, Base.Document.__table__, report="docs/a")
    run(lambda op: op.drop_file_column("document", "report"))
    assert [row[0] for row in outbox(engine)] == ["docs/a"]


def test_nothing_is_dropped_where_no_outbox_could_take_the_objects(engine, run):
    if run.printed:
        return  # nobody can be asked
    Base = models(MetaData(info=metadata_options(outbox=None)), report="documents")
    Base.metadata.create_all(engine)
    with pytest.raises(ConfigurationError, match="objects='keep'"):
        run(lambda op: op.drop_file_column("document", "report"))
    assert "report" in {column["name"] for column in inspect(engine).get_columns("document")}
    run(lambda op: op.drop_file_column("document", "report", objects="keep", outbox=None))


def test_what_becomes_of_the_objects_is_one_of_two():
    with pytest.raises(ConfigurationError, match=r"'free'.*'keep'"):
        DropFileColumnOp("document", "report", objects="delete")


@pytest.mark.parametrize("triggers", [False, True])
@pytest.mark.parametrize("indexes", [{"location_index": False}, {}, {"indexes": ("size", "filename")}], ids=str)
def test_a_renamed_column_keeps_its_data_and_all_that_belongs_to_it(project, engine, run, triggers, indexes):
    options = {"trigger": triggers, **indexes}
    Base = with_report(**options)
    Base.metadata.create_all(engine)
    add_rows(engine, Base.Document.__table__, report="docs/a")

    def rename(op, old, new):
        op.rename_file_column("document", old, new, policy="documents", triggers=triggers, **indexes)

    run(lambda op: rename(op, "report", "the paper"))
    Renamed = models(cover="covers", paper=FileColumn("documents", name="the paper", **options))
    assert project.differences(Renamed) == []
    assert ("document", "the paper", "documents", TRIGGER_VERSION if triggers else None) in noted(engine, Renamed)
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM document")
        freed = connection.exec_driver_sql("SELECT location, source FROM granite_storage_outbox").all()
        assert [tuple(row) for row in freed] == ([("docs/a", "document.the paper")] if triggers else [])
        connection.rollback()
    run(lambda op: rename(op, "the paper", "report"))
    assert project.differences(Base) == []


def test_each_has_its_reverse(project, engine, run):
    Base = without_report()
    Base.metadata.create_all(engine)
    options = {"policy": "documents", "triggers": True, "indexes": ["size"]}
    add = AddFileColumnOp("document", refs(), **options)
    rename = RenameFileColumnOp("document", "report", "paper", **options)
    run(lambda op: op.invoke(add), lambda op: op.invoke(rename))
    run(lambda op: op.invoke(rename.reverse()))
    assert project.differences(with_report(trigger=True, indexes=["size"])) == []
    drop = add.reverse()
    run(lambda op: op.invoke(drop))
    assert project.differences(Base) == []
    run(lambda op: op.invoke(drop.reverse()))
    assert project.differences(with_report(trigger=True, indexes=["size"])) == []
    with pytest.raises(ValueError, match="not reversible"):
        DropFileColumnOp("document", "report").reverse()


@pytest.mark.databases("postgresql")
def test_schemas_of_table_and_storage_may_differ(project, engine, run):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.exec_driver_sql("CREATE SCHEMA files")
    project.configure(include_schemas=True)

    def version(*names: str):
        metadata = MetaData(schema="files")
        Base = models(metadata, **{name: FileColumn("documents", trigger=True) for name in names})
        Base.metadata.tables["files.document"].to_metadata(made := MetaData(schema="files"), schema="shop")
        Base.metadata = made
        return Base

    version("cover").metadata.create_all(engine)
    options = {"policy": "documents", "triggers": True, "schema": "shop", "storage_schema": "files"}
    run(lambda op: op.add_file_column("document", refs(), **options))
    assert project.differences(version("cover", "report")) == []
    run(lambda op: op.rename_file_column("document", "report", "paper", **options))
    assert project.differences(version("cover", "paper")) == []
    run(lambda op: op.drop_file_column("document", "paper", schema="shop", storage_schema="files"))
    assert project.differences(version("cover")) == []
