"""What the triggers write, whoever changes a row: on every database the same."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, bindparam, text

from tests.orm.triggers.worlds import TriggerWorld, ref_text

INSERT = text("INSERT INTO document (id, report) VALUES (:id, :report)")


def insert(world: TriggerWorld, *values: str | None) -> None:
    with world.engine.begin() as connection:
        for number, value in enumerate(values, 1):
            connection.execute(INSERT, {"id": number, "report": value})


def test_raw_delete_writes_what_it_frees(world):
    insert(world, ref_text("docs/a", storage_key="documents", size=7), ref_text("docs/b"), None)
    world.sql("DELETE FROM document WHERE id <> 2")
    with world.engine.connect() as connection:
        (row,) = world.rows(connection)
    assert (row.backend, row.location, row.storage_key, row.size) == ("memory", "docs/a", "documents", 7)
    assert row.source == "document.report"
    assert row.freed_at is not None
    assert (row.not_before, row.attempts, row.last_error) == (None, 0, None)


def test_a_ref_without_a_storage_key_or_a_size_is_written_too(world):
    insert(world, ref_text("docs/a"), ref_text("docs/b", storage_key=None, size=None))
    world.sql("DELETE FROM document")
    with world.engine.connect() as connection:
        rows = [(row.location, row.storage_key, row.size) for row in world.rows(connection)]
    assert rows == [("docs/a", "", None), ("docs/b", "", None)]


@pytest.mark.parametrize("value", ["NULL", "'null'", "'[]'", "'{}'", "'7'"])
def test_raw_update_that_clears_a_field_writes_what_it_held(world, value):
    insert(world, ref_text("docs/a"))
    world.sql(f"UPDATE document SET report = {value}")
    assert world.freed() == ["docs/a"]


@pytest.mark.parametrize("new", [ref_text("docs/A"), ref_text("docs/a ", size=1), ref_text("docs/a", backend="other")])
def test_raw_update_to_another_object_writes_the_old_one(world, new):
    insert(world, ref_text("docs/a"))
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE document SET report = :new"), {"new": new})
        (row,) = world.rows(connection)
    assert (row.backend, row.location) == ("memory", "docs/a")


def test_an_update_that_keeps_the_object_writes_nothing(world):
    insert(world, ref_text("docs/a", size=1))
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE document SET report = :new"), {"new": ref_text("docs/a", size=2, extra={})})
        connection.execute(text("UPDATE document SET title = 'new', id = 9"))
    assert world.freed() == []


def test_filling_an_empty_field_writes_nothing(world):
    insert(world, None, "null")
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE document SET report = :new"), {"new": ref_text("docs/a")})
    assert world.freed() == []


def test_each_field_of_a_row_is_written_and_no_field_without_triggers(world):
    with world.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO document (report, scan, draft) VALUES (:report, :scan, :draft)"),
            {name: ref_text(f"docs/{name}") for name in ("report", "scan", "draft")},
        )
        connection.execute(text("DELETE FROM document"))
        sources = {row.location: row.source for row in world.rows(connection)}
    assert sources == {"docs/report": "document.report", "docs/scan": "document.scan"}


@pytest.mark.parametrize(
    "value",
    [
        "null", '"docs/a"', "5", "[1, 2]", "{}", '{"location": "docs/a"}', '{"backend": "memory"}',
        '{"location": "", "backend": "memory"}', '{"location": 5, "backend": "memory"}',
        '{"location": "docs/a", "backend": null}', '{"legacy_inline_text": "text"}', ref_text("x" * 1025),
        ref_text("ü" * 513), ref_text("docs/a", backend="x" * 256),
    ],
)  # fmt: skip
def test_values_that_are_no_refs_neither_fail_nor_are_written(world, value):
    insert(world, value, value)
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE document SET report = :new WHERE id = 1"), {"new": "7"})
        connection.execute(text("DELETE FROM document"))
    assert world.freed() == []


@pytest.mark.parametrize("size", ['"five"', "-1", "1e400", "99999999999999999999999", "[]", "1.5"])
def test_a_strange_size_is_left_out(world, size):
    insert(world, f'{{"backend": "memory", "location": "docs/a", "size": {size}, "storage_key": [1]}}')
    world.sql("DELETE FROM document")
    with world.engine.connect() as connection:
        (row,) = world.rows(connection)
    assert (row.location, row.size) == ("docs/a", None)


def test_a_rolled_back_statement_takes_its_row_back(world):
    insert(world, ref_text("docs/a"), ref_text("docs/b"))
    with world.engine.begin() as connection:
        savepoint = connection.begin_nested()
        connection.execute(text("DELETE FROM document WHERE id = 1"))
        assert world.freed(connection) == ["docs/a"]
        savepoint.rollback()
        connection.execute(text("DELETE FROM document WHERE id = 2"))
    assert world.freed() == ["docs/b"]


def test_the_number_of_rows_that_a_statement_changed_is_its_own(world):
    insert(world, ref_text("docs/a"), ref_text("docs/b"))
    with world.engine.begin() as connection:
        assert connection.execute(text("UPDATE document SET report = NULL WHERE id = 1")).rowcount == 1
        assert connection.execute(text("DELETE FROM document")).rowcount == 2


@pytest.mark.databases("sqlite", "postgresql")
def test_a_cascade_of_the_database_writes_what_it_frees(world):
    world.sql("INSERT INTO folder (id) VALUES (1)")
    insert(world, ref_text("docs/a"), ref_text("docs/b"))
    world.sql("UPDATE document SET folder_id = 1 WHERE id = 1", "DELETE FROM folder")
    assert world.freed() == ["docs/a"]


def test_an_upsert_writes_what_it_replaces(world):
    insert(world, ref_text("docs/a"))
    conflict = "ON CONFLICT (id) DO UPDATE SET report = excluded.report"
    if world.engine.dialect.name == "mariadb":
        conflict = "ON DUPLICATE KEY UPDATE report = VALUES(report)"
    with world.engine.begin() as connection:
        connection.execute(text(f"{INSERT.text} {conflict}"), {"id": 1, "report": ref_text("docs/b")})
    assert world.freed() == ["docs/a"]


@pytest.mark.databases("sqlite", "postgresql")
def test_a_column_of_plain_json_has_the_same_triggers(world):
    """As applications have it that came from other libraries, or declared JSON by themselves."""
    with world.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            world.metadata.drop_all(connection)
            world.Document.__table__.c.report.type.load_dialect_impl = lambda dialect: JSON().dialect_impl(dialect)
            world.metadata.create_all(connection)
    statement = INSERT.bindparams(bindparam("report", type_=JSON()))
    with world.engine.begin() as connection:
        connection.execute(statement, {"id": 1, "report": {"backend": "memory", "location": "docs/a", "size": 3}})
        connection.execute(text("DELETE FROM document"))
        (row,) = world.rows(connection)
    assert (row.location, row.size) == ("docs/a", 3)
