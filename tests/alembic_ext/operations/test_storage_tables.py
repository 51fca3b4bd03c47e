"""op.create_storage_outbox, op.create_storage_registry, and how they are dropped."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import inspect, text

from alembic_ext.operations import CreateStorageOutboxOp, CreateStorageRegistryOp
from granite_storage import FileColumn
from granite_storage.orm.registry import known_database_id, registry_of
from tests.alembic_ext.operations.running import models, outbox


def names(engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_they_are_as_create_all_makes_them(project, engine, run):
    Base = models(report="documents")
    run(lambda op: op.create_storage_registry(), lambda op: op.create_storage_outbox())
    Base.metadata.create_all(engine)
    assert project.differences(Base) == []
    if not run.printed:  # a printed script is for several databases, and has no id for them
        with engine.connect() as connection:
            assert known_database_id(connection, registry_of(Base.metadata)) is not None
    Base.Document.__table__.drop(engine)
    run(lambda op: op.drop_storage_outbox(), lambda op: op.drop_storage_registry())
    assert names(engine) == set()


def test_they_may_have_other_names(engine, run):
    run(lambda op: op.create_storage_registry("file_fields"), lambda op: op.create_storage_outbox("freed_files"))
    assert names(engine) == {"file_fields", "freed_files"}
    run(lambda op: op.drop_storage_outbox("freed_files"), lambda op: op.drop_storage_registry("file_fields"))
    assert names(engine) == set()


def test_an_outbox_stays_while_it_has_rows_and_is_taken_again(engine, run, caplog):
    if run.printed:
        return  # nobody can be asked
    run(lambda op: op.create_storage_outbox())
    before = {index["name"] for index in inspect(engine).get_indexes("granite_storage_outbox")}
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO granite_storage_outbox (backend, location, storage_key) VALUES ('m', 'docs/a', 'd')")
        )
    with caplog.at_level(logging.WARNING, "alembic_ext"):
        run(
            lambda op: op.drop_index("ix_granite_storage_outbox__location", "granite_storage_outbox"),
            lambda op: op.drop_storage_outbox(),
        )
    assert "Kept table 'granite_storage_outbox': it has 1 rows" in caplog.text
    run(lambda op: op.create_storage_outbox())
    assert [row[0] for row in outbox(engine)] == ["docs/a"]
    assert {index["name"] for index in inspect(engine).get_indexes("granite_storage_outbox")} == before


@pytest.mark.databases("postgresql")
def test_the_function_of_the_triggers_goes_with_the_outbox(engine, run):
    Base = models(report=FileColumn("documents", trigger=True))
    Base.metadata.create_all(engine)
    run(lambda op: op.drop_storage_outbox())
    with engine.connect() as connection:
        functions = text("SELECT proname FROM pg_proc WHERE proname LIKE '%\\_\\_free'")
        assert connection.execute(functions).all() == []
        connection.execute(text("DELETE FROM document"))  # no trigger is left that would fail


def test_each_has_its_reverse(engine, run):
    creates = [CreateStorageOutboxOp("freed_files", ()), CreateStorageRegistryOp("file_fields", ())]
    for create in creates:
        run(lambda op, create=create: op.invoke(create))
        drop = create.reverse()
        run(lambda op, drop=drop: op.invoke(drop))
        assert names(engine) == set()
        run(lambda op, drop=drop: op.invoke(drop.reverse()))
        assert names(engine) == {create.table_name}
        run(lambda op, drop=drop: op.invoke(drop))
