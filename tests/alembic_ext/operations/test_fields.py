"""op.register_file_column, op.unregister_file_column and op.rebind_file_column."""

from __future__ import annotations

import pytest

from alembic_ext.operations import RebindFileColumnOp, RegisterFileColumnOp, UnregisterFileColumnOp
from granite_storage import ConfigurationError
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox

DOCUMENT = ("document", "report", "documents", None)


@pytest.fixture
def Base(engine):
    made = models(report="documents")
    made.metadata.create_all(engine)
    return made


def test_a_field_is_forgotten_and_noted_again(engine, Base, run):
    run(lambda op: op.unregister_file_column("document", "report", objects="keep"))
    assert noted(engine, Base) == set()
    run(*[lambda op: op.register_file_column("document", "report", policy="documents")] * 2)
    assert noted(engine, Base) == {DOCUMENT}


def test_a_field_that_is_forgotten_may_free_its_objects(engine, Base, run):
    add_rows(engine, Base.Document.__table__, report="docs/a")
    run(lambda op: op.unregister_file_column("document", "report", objects="free"))
    assert outbox(engine) == [("docs/a", "documents", 3, "document.report")]


def test_a_field_is_bound_to_another_policy_and_back(engine, Base, run):
    rebind = RebindFileColumnOp("document", "report", "documents", "archive")
    run(lambda op: op.rebind_file_column("document", "report", "documents", "archive"))
    assert noted(engine, Base) == {("document", "report", "archive", None)}
    run(lambda op: op.invoke(rebind.reverse()))
    assert noted(engine, Base) == {DOCUMENT}


def test_they_are_each_others_reverse(engine, Base, run):
    register = RegisterFileColumnOp("document", "report", policy="documents", objects="free")
    unregister = register.reverse()
    assert isinstance(unregister, UnregisterFileColumnOp) and unregister.objects == "free"
    run(lambda op: op.invoke(unregister))
    assert noted(engine, Base) == set()
    run(lambda op: op.invoke(unregister.reverse()))
    assert noted(engine, Base) == {DOCUMENT}


def test_what_becomes_of_the_objects_is_one_of_two():
    with pytest.raises(ConfigurationError, match=r"'free'.*'keep'"):
        UnregisterFileColumnOp("document", "report", objects="drop")


def test_a_database_without_a_registry_has_nothing_to_note(engine, Base, run):
    if run.printed:
        return  # nobody can be asked
    Base.metadata.tables["granite_storage_fields"].drop(engine)
    run(
        lambda op: op.register_file_column("document", "report", policy="documents"),
        lambda op: op.rebind_file_column("document", "report", "documents", "archive"),
        lambda op: op.unregister_file_column("document", "report", objects="keep"),
    )


@pytest.mark.databases("postgresql", "mariadb")
def test_the_default_schema_may_be_named_or_not(engine, Base, database):
    from tests.alembic_ext.operations.running import Runner

    schema = "public" if database.name == "postgresql" else database.url.database
    Runner(engine, printed=False)(
        lambda op: op.rebind_file_column("document", "report", "documents", "archive", schema=schema)
    )
    assert noted(engine, Base) == {("document", "report", "archive", None)}
