"""What only MariaDB and MySQL have: REPLACE that deletes, and cascades and TRUNCATE that fire nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.orm.triggers.worlds import ref_text

pytestmark = pytest.mark.databases("mariadb")


def test_replace_frees_the_old_object(world):
    replace = text("REPLACE INTO document (id, report) VALUES (1, :report)")
    with world.engine.begin() as connection:
        connection.execute(replace, {"report": ref_text("docs/a")})
        connection.execute(replace, {"report": ref_text("docs/b")})
    assert world.freed() == ["docs/a"]


@pytest.mark.parametrize("statement", ["DELETE FROM folder", "TRUNCATE document"])
def test_what_fires_no_trigger_writes_nothing(world, statement):
    """A limit of the database, as the documentation of the triggers says; if this fails it has learned to."""
    world.sql("INSERT INTO folder (id) VALUES (1)")
    with world.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO document (folder_id, report) VALUES (1, :report)"), {"report": ref_text("docs/a")}
        )
    world.sql(statement)
    with world.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM document")) == 0
    assert world.freed() == []
