"""The registry holds what is declared: create_all fills it, triggers or not, and what is dropped is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_mock_engine, inspect, select

from granite_storage import StoredObjectRefType
from granite_storage.orm.options import metadata_options
from granite_storage.orm.registry import registry_of
from granite_storage.orm.triggers import TRIGGER_VERSION


def table(metadata: MetaData, name: str, *, schema: str | None = None, **types: Any) -> Table:
    columns = [Column(column, type_) for column, type_ in types.items()]
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns, schema=schema)


@pytest.fixture
def metadata() -> MetaData:
    made = MetaData()
    table(made, "document", report=StoredObjectRefType("documents"), cover=StoredObjectRefType("covers", trigger=True))
    table(made, "Note Book", **{"Spaced Name": StoredObjectRefType("notes"), "old": StoredObjectRefType()})
    table(made, "plain")
    return made


def noted(engine: Engine, metadata: MetaData) -> set[Any]:
    columns = registry_of(metadata).c
    fields = select(
        columns.schema_name, columns.table_name, columns.column_name, columns.policy, columns.trigger_version
    )
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(fields.where(columns.table_name != ""))}


ALL = {
    ("", "document", "report", "documents", None),
    ("", "document", "cover", "covers", TRIGGER_VERSION),
    ("", "Note Book", "Spaced Name", "notes", None),
}


def test_all_that_is_declared_is_noted_and_columns_without_a_policy_are_not(engine, metadata):
    metadata.create_all(engine)
    assert noted(engine, metadata) == ALL
    metadata.create_all(engine)
    assert noted(engine, metadata) == ALL


def test_a_table_that_is_dropped_is_forgotten_and_the_others_are_not(engine, metadata):
    metadata.create_all(engine)
    metadata.tables["document"].drop(engine)
    assert noted(engine, metadata) == {("", "Note Book", "Spaced Name", "notes", None)}
    metadata.create_all(engine)
    assert noted(engine, metadata) == ALL
    metadata.drop_all(engine)
    assert inspect(engine).get_table_names() == []


def test_a_table_that_is_made_again_where_it_was_dropped_by_hand_has_its_new_policy(engine, metadata):
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE document")
    other = MetaData()
    table(other, "document", report=StoredObjectRefType("papers"))
    other.create_all(engine)
    assert ("", "document", "report", "papers", None) in noted(engine, metadata)


def test_a_table_that_is_made_without_a_registry_is_made(engine, metadata):
    metadata.tables["Note Book"].create(engine)
    assert inspect(engine).get_table_names() == ["Note Book"]
    metadata.tables["Note Book"].drop(engine)


def test_tables_are_made_and_dropped_without_looking_first(engine, metadata):
    metadata.create_all(engine, checkfirst=False)
    assert noted(engine, metadata) == ALL
    metadata.drop_all(engine, checkfirst=False)
    assert inspect(engine).get_table_names() == []


@pytest.mark.databases("postgresql")
def test_the_schema_is_noted_as_the_database_has_it(engine):
    metadata = MetaData(info=metadata_options(registry="file_fields"))
    table(metadata, "document", schema="shop", report=StoredObjectRefType("documents"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    translated = engine.execution_options(schema_translate_map={"shop": "tenant"})
    metadata.create_all(translated)
    assert noted(engine, metadata) == {("tenant", "document", "report", "documents", None)}
    metadata.tables["shop.document"].drop(translated)
    assert noted(engine, metadata) == set()


def test_a_script_for_several_databases_holds_no_rows(metadata):
    script: list[str] = []
    mock: Any = create_mock_engine("sqlite://", lambda sql, *rest: script.append(str(sql)))
    metadata.create_all(mock, checkfirst=False)
    assert script and not any("granite_storage_fields" in one for one in script if "CREATE TABLE" not in one)
