"""op.rename_file_table, which takes along what belongs to a table's file columns."""

from __future__ import annotations

import pytest

from alembic_ext.operations import RenameFileTableOp
from granite_storage import FileColumn
from tests.alembic_ext.operations.running import add_rows, models, noted

COLUMNS = {"report": "documents", "cover": "covers"}
BELONGINGS = {"triggers": ["report"], "location_indexes": ["report"], "indexes": {"report": ["size"]}}


def version(table: str):
    report = FileColumn("documents", trigger=True, indexes=["size"])
    return models(table=table, report=report, cover=FileColumn("covers", location_index=False))


def rename(op, old: str, new: str, **options: object) -> None:
    op.rename_file_table(old, new, columns=COLUMNS, **BELONGINGS, **options)


@pytest.mark.parametrize("new", ["paper", "The Papers"])
def test_a_renamed_table_takes_indexes_registry_and_triggers_along(project, engine, run, new):
    Base, Renamed = version("document"), version(new)
    Base.metadata.create_all(engine)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    run(lambda op: rename(op, "document", new))
    assert project.differences(Renamed) == []
    assert {row[0] for row in noted(engine, Renamed)} == {new}
    with engine.connect() as connection:
        quoted = connection.dialect.identifier_preparer.quote(new)
        connection.exec_driver_sql(f"DELETE FROM {quoted}")
        freed = connection.exec_driver_sql("SELECT location, source FROM granite_storage_outbox").all()
        assert [tuple(row) for row in freed] == [("docs/a", f"{new}.report")]  # once
        connection.rollback()
    run(lambda op: rename(op, new, "document"))
    assert project.differences(Base) == []


def test_a_table_that_was_renamed_already_is_followed(project, engine, run):
    version("document").metadata.create_all(engine)
    run(
        lambda op: op.rename_table("document", "paper"),
        lambda op: rename(op, "document", "paper", rename_table=False),
    )
    assert project.differences(version("paper")) == []


def test_it_has_a_reverse(project, engine, run):
    Base = version("document")
    Base.metadata.create_all(engine)
    op_ = RenameFileTableOp("document", "paper", columns=COLUMNS, **BELONGINGS)
    run(lambda op: op.invoke(op_), lambda op: op.invoke(op_.reverse()))
    assert project.differences(Base) == []
