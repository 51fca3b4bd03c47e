"""Tables that op.rename_table renamed: their fields are followed to the new name, whatever else changed."""

from __future__ import annotations

import pytest

from granite_storage import FileColumn
from tests.alembic_ext.compare.test_fields import parts
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox
from tests.alembic_ext.projects import nothing


def file(policy: str = "documents", **options):
    return FileColumn(policy, **options)


def document():
    return models(report=file(trigger=True), cover="covers")


@pytest.fixture
def renamed(project, engine):
    """A table with two files that was renamed by a script of its own."""
    Base = document()
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a", cover="covers/b")
    project.by_hand('op.rename_table("document", "letter")', 'op.rename_table("letter", "document")')


def test_a_table_that_was_renamed_by_hand_is_followed(project, engine):
    def version(table):
        return models(table=table, report=file(trigger=True), cover=file("covers", location_index=False))

    project.migrate(version("document"))
    project.by_hand('op.rename_table("document", "letter")', 'op.rename_table("letter", "document")')
    up, down = parts(project.migrate(version("letter")))
    call = "location_indexes=('report',), triggers=('report',), rename_table=False"
    columns = "columns={'report': 'documents', 'cover': 'covers'}"
    assert up == [f"op.rename_file_table('document', 'letter', {columns}, {call})"]
    assert down == [f"op.rename_file_table('letter', 'document', {columns}, {call}, present_name='letter')"]
    assert {row[0] for row in noted(engine, version("letter"))} == {"letter"}
    assert triggered(engine, "letter", "docs/a") == ["letter.report"]
    project.downgrade()
    project.downgrade()
    assert project.differences(version("document")) == []
    assert triggered(engine, "document", "docs/a") == ["document.report"]


def triggered(engine, table: str, location: str) -> list[str]:
    """What the outbox says about where an object was freed by the triggers."""
    with engine.connect() as connection:
        ref = '{"location": "%s", "backend": "b"}'.replace("%s", location)
        connection.exec_driver_sql(f"INSERT INTO {table} (id, title, report) VALUES (9, 'x', '{ref}')")
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE id = 9")
        freed = connection.exec_driver_sql("SELECT source FROM granite_storage_outbox").scalars().all()
        connection.rollback()
    return list(freed)


@pytest.mark.parametrize(
    ("fields", "freed"),
    [
        (lambda: {"paper": file(trigger=True), "cover": "covers"}, []),
        (lambda: {"report": file("archive", trigger=True), "cover": "covers"}, []),
        (lambda: {"report": file(trigger=True), "cover": "covers", "scan": "scans"}, []),
        (lambda: {"report": file(), "cover": "covers"}, []),
        (lambda: {"report": file(trigger=True, location_index=False), "cover": file("covers", trigger=True)}, []),
        (lambda: {"report": file(trigger=True)}, ["covers/b"]),
        (lambda: {"cover": "covers"}, ["docs/a"]),
        (dict, ["covers/b", "docs/a"]),
    ],
    ids=["renamed", "rebound", "added", "triggers off", "index off", "dropped", "triggers dropped", "all dropped"],
)
def test_fields_may_change_with_the_name(project, engine, renamed, fields, freed):
    keeping = models(table="other", file="others")  # or outbox and registry would go with the last field
    after = models(keeping.metadata, table="letter", **fields())
    project.migrate(after)
    assert [row[0] for row in outbox(engine)] == freed
    if "report" in fields():
        expected = ["letter.report"] if fields()["report"].column.type.trigger else []
        assert triggered(engine, "letter", "docs/c")[len(freed) :] == expected  # once
    project.downgrade()
    project.downgrade()
    assert project.differences(document()) == []
    project.upgrade()
    project.check(after)


def test_a_table_that_was_renamed_and_is_dropped_frees_its_objects(project, engine, renamed):
    keeping = models(table="other", file="others")
    project.migrate(keeping)
    assert [row[0] for row in outbox(engine)] == ["covers/b", "docs/a"]
    project.downgrade()
    project.downgrade()
    assert project.differences(document()) == []


def test_the_old_name_may_be_given_away_at_once(project, engine, renamed):
    letter = models(table="letter", report=file(trigger=True), cover="covers")
    both = models(letter.metadata, report=file(trigger=True), cover="covers")
    project.migrate(both)
    assert {row[0] for row in noted(engine, both)} == {"letter", "document"}
    project.downgrade()
    project.downgrade()
    assert project.differences(document()) == []


def test_a_table_of_the_same_fields_is_not_taken_for_one_that_was_dropped(project, engine):
    """Where several may be the one, nobody can tell."""
    project.migrate(document())
    project.execute("DROP TABLE document")
    first = models(table="first", report="documents", cover="covers")
    both = models(first.metadata, table="second", report="documents", cover="covers")
    up, _ = parts(project.migrate(both))
    assert not any("rename_file_table" in line for line in up)
    project.migrate(nothing())
