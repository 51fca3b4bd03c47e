"""Triggers that come, go, were lost, or are in the way."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, Text

from granite_storage import FileColumn
from granite_storage.orm import triggers as library
from granite_storage.orm.options import metadata_options
from granite_storage.orm.triggers import drop_triggers
from tests.alembic_ext.compare.test_fields import parts
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox, stand

CREATE, DROP = "op.create_file_triggers('document', 'report')", "op.drop_file_triggers('document', 'report')"


def with_triggers(trigger: bool = True, **options):
    return models(report=FileColumn("documents", trigger=trigger, **options))


def column(Base):
    return Base.Document.__table__.c.report


def test_they_are_made_after_the_table_and_dropped_before_it(project, engine):
    Base = with_triggers()
    up, down = parts(project.migrate(Base))
    assert up[-1] == CREATE and down[0] == DROP
    assert stand(engine, column(Base))
    project.downgrade()
    assert project.tables() == set()


def test_they_are_turned_on_and_off(project, engine):
    project.migrate(with_triggers(False))
    assert parts(project.migrate(with_triggers())) == ([CREATE], [DROP])
    assert stand(engine, column(with_triggers()))
    assert parts(project.migrate(with_triggers(False))) == ([DROP], [CREATE])
    assert not stand(engine, column(with_triggers()))
    project.downgrade()
    assert project.differences(with_triggers()) == []


def test_they_are_turned_on_for_a_whole_metadata(project, engine):
    project.migrate(models(report="documents", cover="documents"))
    Base = models(MetaData(info=metadata_options(triggers=True)), report="documents", cover="documents")
    up, _ = parts(project.migrate(Base))
    assert up == [CREATE, CREATE.replace("report", "cover")]


def test_those_that_were_dropped_by_hand_are_made_again(project, engine):
    Base = with_triggers()
    project.migrate(Base)
    with engine.begin() as connection:
        from granite_storage.orm.triggers import definitions_for, trigger_of

        for statement in definitions_for(engine.dialect.name).drop(
            connection.dialect, trigger_of(connection, column(Base))
        ):
            connection.exec_driver_sql(statement)
    script = project.migrate(Base)
    assert parts(script) == ([CREATE], [])
    assert "# The triggers were lost: made anew." in script
    assert stand(engine, column(Base))
    project.downgrade()
    assert project.differences(Base) == []


def test_those_that_the_library_dropped_are_made_again(project, engine):
    Base = with_triggers()
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        drop_triggers(connection, Base.Document.__table__)
    assert parts(project.migrate(Base)) == ([CREATE], [DROP])


@pytest.mark.parametrize("version", ["0", "7", "NULL"])
def test_those_of_another_version_are_made_anew(project, engine, version):
    Base = with_triggers()
    project.migrate(Base)
    project.execute(f"UPDATE granite_storage_fields SET trigger_version = {version} WHERE column_name = 'report'")
    script = project.migrate(Base)
    assert parts(script) == ([CREATE], [])
    assert f"# Made anew, as version {library.TRIGGER_VERSION} has them." in script
    assert noted(engine, Base) == {("document", "report", "documents", library.TRIGGER_VERSION)}
    project.downgrade()
    assert project.differences(Base) == []


def test_they_are_dropped_before_their_column(project, engine):
    Base = models(report=FileColumn("documents", trigger=True), cover=FileColumn("documents", trigger=True))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a", cover="docs/b")
    up, down = parts(project.migrate(models(cover=FileColumn("documents", trigger=True))))
    assert up[0] == DROP and down[-1] == CREATE
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM document")  # what is left of them would fail
    assert [row[0] for row in outbox(engine)] == ["docs/a", "docs/b"]
    project.downgrade()
    assert project.differences(Base) == []


@pytest.mark.databases("sqlite")
def test_those_that_a_batch_loses_are_made_again(project, engine):
    def wider(*columns):
        Base = with_triggers()
        Base.Document.__table__.c.title.type = String(80)
        for added in columns:
            Base.Document.__table__.append_column(added)
        return Base

    project.configure(render_as_batch=True)
    project.migrate(with_triggers())
    script = project.migrate(wider())
    up, down = parts(script)
    assert up[-1] == CREATE and down[-1] == CREATE
    assert "# A batch makes the table anew, without its triggers." in script
    project.downgrade()
    assert project.differences(with_triggers()) == []
    project.upgrade()
    up, down = parts(project.migrate(wider(Column("pages", Integer))))
    assert CREATE not in up and down[-1] == CREATE  # nothing is lost on the way up
    project.downgrade()
    assert project.differences(wider()) == []


@pytest.mark.databases("sqlite")
def test_those_that_a_batch_by_hand_lost_are_found(project):
    Base = with_triggers()
    project.migrate(Base)
    project.execute(
        "CREATE TABLE other AS SELECT * FROM document", "DROP TRIGGER tr_document__report__delete", "DROP TABLE other"
    )
    assert parts(project.migrate(Base)) == ([CREATE], [])


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("kind", [JSON, Text])
def test_they_make_way_for_a_change_of_type(project, engine, kind):
    old = MetaData()
    Table(
        "document", old, Column("id", Integer, primary_key=True), Column("title", String(50)), Column("report", kind())
    )
    project.migrate(old)
    Base = with_triggers()
    project.migrate(Base)
    if kind is Text:
        return
    project.execute(
        "DROP TRIGGER tr_document__report__update ON document",
        "DROP TRIGGER tr_document__report__delete ON document",
        "DROP TRIGGER tr_document__report__truncate ON document",
        "ALTER TABLE document ALTER COLUMN report TYPE json USING report::json",
    )
    with engine.begin() as connection:
        library.create_triggers(connection, Base.Document.__table__)
    up, down = parts(project.migrate(Base))
    assert up[0] == DROP and up[-1] == CREATE and down[0] == DROP and down[-1] == CREATE
    project.downgrade()
    project.upgrade()
    assert stand(engine, column(Base))


@pytest.mark.databases("postgresql", "mariadb")
def test_they_go_when_there_is_to_be_no_outbox_any_more(project, engine):
    project.migrate(with_triggers())
    Base = models(MetaData(info=metadata_options(outbox=None)), report="documents")
    up, _ = parts(project.migrate(Base))
    assert any("drop_file_triggers('document', 'report'" in line for line in up)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM document")
