"""Outbox and registry: first made, last dropped, and the outbox only when nothing is left in it."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from granite_storage import FileColumn, StorageManager, StoragePolicy
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import add_outbox
from granite_storage.orm.registry import add_registry
from tests.alembic_ext.compare.test_fields import parts
from tests.alembic_ext.operations.running import add_rows, models, outbox


def test_the_last_fields_objects_stay_in_the_outbox_until_they_are_swept(project, engine):
    Base, plain = models(report=FileColumn("documents", trigger=True)), models()
    project.migrate(plain)
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    project.downgrade()
    assert project.tables() == {"document", "granite_storage_outbox"}
    assert project.differences(plain) == []  # nothing more to be done
    project.upgrade()
    project.check(Base)
    assert [row[0] for row in outbox(engine)] == ["docs/a"]
    project.migrate(plain)
    project.check(plain)
    project.execute("DELETE FROM granite_storage_outbox")
    up, _ = parts(project.migrate(plain))
    assert up[-1] == "op.drop_storage_outbox('granite_storage_outbox')"
    assert project.tables() == {"document"}


def test_a_metadata_may_have_an_outbox_for_as_long_as_something_is_left(project, engine):
    Base, plain = models(report="documents"), models()
    policy = StoragePolicy("documents", backend_key="memory", key_prefix="docs")
    manager = StorageManager(backends={"memory": "memory://"}, policies={"documents": policy})
    project.migrate(Base)
    stored = manager.store("documents", b"abc")
    add_rows(engine, Base.Document.__table__, report=stored.location)
    add_registry(plain.metadata)
    add_outbox(plain.metadata)
    project.migrate(plain)
    assert [row[0] for row in outbox(engine)] == [stored.location]
    assert project.tables() == {"document", "granite_storage_outbox", "granite_storage_fields"}


def test_tables_of_other_names_are_ours_too(project, engine):
    def named(**columns):
        metadata = MetaData(info=metadata_options(outbox="freed_files", registry="file_fields"))
        return models(metadata, **columns)

    Base = named(report=FileColumn("documents", trigger=True))
    up, down = parts(project.migrate(Base))
    assert [line.split("'")[1] for line in up[:2]] == ["file_fields", "freed_files"]
    names = "registry='file_fields', outbox='freed_files'"
    assert f"op.create_file_triggers('document', 'report', {names})" in up
    assert f"op.unregister_file_column('document', 'report', objects='free', {names})" in down
    project.downgrade()
    assert project.tables() == set()
    project.upgrade()
    project.check(Base)


def test_a_table_of_the_application_of_such_a_name_is_left_alone(project):
    project.execute(
        "CREATE TABLE granite_storage_fields (id integer)", "CREATE TABLE granite_storage_outbox (id integer)"
    )
    script = project.revision(models())
    assert "op.drop_table('granite_storage_outbox')" in script  # as Alembic does with any table
    assert "alembic_ext" not in script


def called(outbox: str | None, registry: str = "granite_storage_fields", **columns):
    return models(MetaData(info=metadata_options(outbox=outbox, registry=registry)), **columns)


@pytest.mark.parametrize(
    "names", [("freed", "granite_storage_fields"), ("granite_storage_outbox", "files"), ("o", "r")]
)
@pytest.mark.parametrize(
    "fields", [{}, {"paper": "documents"}, {"report": "archive"}], ids=["same", "renamed", "rebound"]
)
def test_other_names_for_them_take_triggers_along_and_leave_what_is_to_be_swept(project, engine, names, fields):
    def files(**options):
        return {name: FileColumn(policy, trigger=True) for name, policy in options.items()}

    Base = models(**files(report="documents"))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a docs/b")
    project.execute("DELETE FROM document WHERE id = 1")
    After = called(*names, **files(**(fields or {"report": "documents"})))
    project.migrate(After)
    assert [row[0] for row in outbox(engine)] == ["docs/a"]  # it is still there
    project.execute("DELETE FROM document")
    freed = {names[0], "granite_storage_outbox"}
    assert sorted(row[0] for name in freed for row in outbox(engine, name)) == ["docs/a", "docs/b"]
    project.downgrade()
    assert project.differences(Base) == []
    add_rows(engine, Base.Document.__table__, report="docs/c")
    project.execute("DELETE FROM document")
    assert "docs/c" in [row[0] for row in outbox(engine)]
    project.upgrade()
    project.check(After)


def test_an_outbox_that_is_to_be_none_stays_while_it_has_rows(project, engine):
    Base = models(report=FileColumn("documents", trigger=True))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    project.execute("DELETE FROM document")
    without = called(None, report="documents")
    project.migrate(without)
    assert [row[0] for row in outbox(engine)] == ["docs/a"]
    project.downgrade()
    assert project.differences(Base) == []
    project.execute("DELETE FROM granite_storage_outbox")
    project.upgrade()
    project.migrate(without)
    assert project.tables() == {"document", "granite_storage_fields"}
    project.downgrade("base")


def test_their_names_may_go_with_the_last_field(project, engine):
    Base = called("freed", "files", report=FileColumn("documents", trigger=True))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    project.migrate(models())
    assert [row[0] for row in outbox(engine, "freed")] == ["docs/a"]
    project.downgrade()
    assert project.differences(Base) == []
