"""What only SQLite has: REPLACE, and columns that may hold anything."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text

from tests.orm.triggers.worlds import ref_text

pytestmark = pytest.mark.databases("sqlite")

REPLACE = text("INSERT OR REPLACE INTO document (id, report) VALUES (1, :report)")


@pytest.mark.parametrize("recursive", [True, False])
def test_replace_frees_the_old_object_only_with_recursive_triggers(world, recursive):
    @event.listens_for(world.engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA recursive_triggers = {'ON' if recursive else 'OFF'}").close()

    world.engine.dispose()
    with world.engine.begin() as connection:
        connection.execute(REPLACE, {"report": ref_text("docs/a")})
        connection.execute(REPLACE, {"report": ref_text("docs/b")})
    assert world.freed() == (["docs/a"] if recursive else [])


@pytest.mark.parametrize("value", ["not json", "", b"\x00\xff", 7, 7.5, "{"])
def test_what_is_no_json_does_not_make_statements_fail(world, value):
    with world.engine.begin() as connection:
        insert = text("INSERT INTO document (id, report) VALUES (:id, :report)")
        connection.execute(insert, {"id": 1, "report": value})
        connection.execute(insert, {"id": 2, "report": ref_text("docs/a")})
        connection.execute(text("UPDATE document SET report = :value"), {"value": value})
        assert world.freed(connection) == ["docs/a"]
        connection.execute(text("DELETE FROM document"))
    assert world.freed() == ["docs/a"]
