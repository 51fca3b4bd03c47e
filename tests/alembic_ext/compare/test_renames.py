"""A dropped and an added field of one policy are taken for a rename, and the data stays."""

from __future__ import annotations

import pytest
from sqlalchemy import Index

from granite_storage import FileColumn
from granite_storage.orm.triggers import create_triggers, drop_triggers
from tests.alembic_ext.compare.test_fields import parts
from tests.alembic_ext.operations.running import add_rows, models, outbox, stand

RENAME = "op.rename_file_column('document', 'report', 'paper', policy='documents'"


@pytest.fixture(params=[False, True], ids=["plain", "batch"], autouse=True)
def render_as_batch(request, project):
    project.configure(render_as_batch=request.param)
    return request.param


def kept(engine, name: str) -> list[str]:
    """The column's values."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT {name} FROM document").scalars().all()
    return ["docs/a" for row in rows if "docs/a" in str(row)]


def test_a_rename_is_offered_as_such_and_keeps_the_data(project, engine):
    Base, Renamed = models(report="documents"), models(paper="documents")
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    script = project.migrate(Renamed)
    assert parts(script) == (
        [f"{RENAME})"],
        ["op.rename_file_column('document', 'paper', 'report', policy='documents')"],
    )
    assert "# Taken for a rename: document.report is gone and paper is new, both of policy" in script
    assert kept(engine, "paper") == ["docs/a"] and outbox(engine) == []
    project.downgrade()
    assert kept(engine, "report") == ["docs/a"]
    assert project.differences(Base) == []


@pytest.mark.parametrize("had", [False, True])
@pytest.mark.parametrize("wants", [False, True])
def test_triggers_follow_a_rename(project, engine, had, wants):
    Base = models(report=FileColumn("documents", trigger=had))
    Renamed = models(paper=FileColumn("documents", trigger=wants))
    project.migrate(Base)
    up, _ = parts(project.migrate(Renamed))
    assert any(line.startswith(RENAME) for line in up)
    assert stand(engine, Renamed.Document.__table__.c.paper) is wants
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM document")
    project.downgrade()
    assert project.differences(Base) == []


@pytest.mark.parametrize("had", [False, True])
@pytest.mark.parametrize("wants", [False, True])
def test_the_location_index_follows_a_rename(project, had, wants):
    Base = models(report=FileColumn("documents", location_index=had))
    project.migrate(Base)
    before = project.schema()
    up, _ = parts(project.migrate(models(paper=FileColumn("documents", location_index=wants))))
    assert any(line.startswith(RENAME) for line in up)
    project.downgrade()
    assert project.schema() == before


def test_what_else_changes_is_changed(project, engine, database, render_as_batch):
    if database.name == "sqlite":
        project.configure(render_as_batch=True)  # SQLite cannot alter a column otherwise
    Base = models(report=FileColumn("documents", trigger=True))
    Renamed = models(paper=FileColumn("documents", trigger=True, nullable=False, comment="the paper"))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    project.migrate(Renamed)
    assert project.schema()["document"]["paper"][1] is False
    assert kept(engine, "paper") == ["docs/a"]
    assert stand(engine, Renamed.Document.__table__.c.paper)
    project.downgrade()
    assert kept(engine, "report") == ["docs/a"]
    assert project.differences(Base) == []


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("trigger", [False, True])
@pytest.mark.parametrize("type_", ["json", "text"])
def test_a_type_that_drifted_is_changed_too(project, engine, trigger, type_):
    Base = models(report=FileColumn("documents", trigger=trigger, location_index=False))
    Renamed = models(paper=FileColumn("documents", trigger=trigger))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    with engine.begin() as connection:
        drop_triggers(connection, Base.Document.__table__)
        connection.exec_driver_sql(f"ALTER TABLE document ALTER COLUMN report TYPE {type_} USING report::{type_}")
        if type_ == "json":
            create_triggers(connection, Base.Document.__table__)
    project.migrate(Renamed)
    assert project.schema()["document"]["paper"][0] == "JSONB"
    assert kept(engine, "paper") == ["docs/a"]
    project.downgrade()
    assert kept(engine, "report") == ["docs/a"]
    project.upgrade()
    project.check(Renamed)


@pytest.mark.databases("sqlite", "postgresql")
def test_your_own_indexes_follow_a_rename(project):
    Base, Renamed = models(report="documents"), models(paper="documents")
    Index("ix_size", Base.Document.report.size)
    Index("ix_size", Renamed.Document.paper.size)
    project.migrate(Base)
    before = project.schema()
    project.migrate(Renamed)
    project.downgrade()
    assert project.schema() == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"report": "documents"}, {"paper": "archive"}),
        ({"report": "documents", "cover": "documents"}, {"paper": "documents"}),
        ({"report": "documents"}, {"paper": "documents", "scan": "documents"}),
    ],
    ids=["another policy", "two went", "two came"],
)
def test_what_cannot_be_told_is_a_drop_and_an_add(project, engine, before, after):
    Base = models(**before)
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a")
    up, _ = parts(project.migrate(models(**after)))
    assert not any("rename" in line for line in up)
    assert [row[0] for row in outbox(engine)] == ["docs/a"]
    project.downgrade()
    assert project.differences(Base) == []


def test_of_several_policies_each_is_told_by_itself(project):
    project.migrate(models(report="documents", cover="covers", same="documents"))
    up, _ = parts(project.migrate(models(paper="documents", front="covers", same="documents")))
    assert len([line for line in up if "rename_file_column" in line]) == 2


def test_a_column_of_an_unknown_policy_is_not_given_up_where_it_may_be_a_rename(project, engine):
    Base = models(report="documents")
    Base.metadata.create_all(engine)
    project.execute("DELETE FROM granite_storage_fields WHERE table_name <> ''")
    add_rows(engine, Base.Document.__table__, report="docs/a")
    up, _ = parts(project.migrate(models(paper="documents")))
    assert any(line.startswith(RENAME) for line in up)
    assert kept(engine, "paper") == ["docs/a"]
