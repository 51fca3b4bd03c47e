"""Any version of the models leads to any other and back: nothing more is found, and no file is lost or leaked."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session

from tests.alembic_ext.model_versions import (
    Version,
    comparable,
    contents,
    declared,
    fill,
    manager,
    survivors,
    versions,
)
from tests.alembic_ext.projects import Project
from tests.databases import Database

# 10 a database in `make test`, each some seconds of the servers' time; the soak runs more
EXAMPLES = 100 if hypothesis.settings.default.max_examples > 100 else 10


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(first=versions, second=versions, batch=st.booleans())
def test_versions_lead_to_each_other_and_back(
    tmp_path_factory: pytest.TempPathFactory, database: Database, first: Version, second: Version, batch: bool
) -> None:
    database.clear()
    first, second = comparable(first, second)
    before, after = declared(first), declared(second)
    project = Project(tmp_path_factory.mktemp("project"), database.url)
    project.configure(render_as_batch=batch or database.name == "sqlite")  # SQLite cannot alter a column otherwise
    project.migrate(before)
    storage = manager()
    storage.attach(before, after)
    engine = create_engine(database.url)
    try:
        with Session(engine) as session:
            fill(session, before, first)
        stored = set(storage.backends["memory"].iter_locations())

        project.migrate(after)
        kept = survivors(first, second)
        with Session(engine) as session:
            found = contents(session, after, second)
        for (table, old), new in kept.items():
            assert found[table, new] == f"{table}.{old}".encode()
        assert named(engine, second) | freed(engine) == stored
        works(engine, after, second)

        project.downgrade()
        assert project.differences(before) == []
        back = survivors(second, first)
        with Session(engine) as session:
            found = contents(session, before, first)
        for (table, _), old in back.items():
            if (table, old) in kept:
                assert found[table, old] == f"{table}.{old}".encode()
        project.upgrade()
        project.check(after)
    finally:
        engine.dispose()
        database.clear()


def named(engine: Any, version: Version) -> set[str]:
    """The locations that rows name."""
    found: set[str] = set()
    for name, table in version.items():
        for column in table.fields:
            quote = engine.dialect.identifier_preparer.quote
            select = f"SELECT {quote(column)} FROM {quote(name)} WHERE {quote(column)} IS NOT NULL"
            with engine.connect() as connection:
                values = connection.execute(text(select)).scalars().all()
            found |= {
                (value if isinstance(value, dict) else __import__("json").loads(value))["location"] for value in values
            }
    return found


def freed(engine: Any) -> set[str]:
    """The locations in the outbox."""
    if not inspect(engine).has_table("granite_storage_outbox"):
        return set()
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT location FROM granite_storage_outbox")).scalars())


def works(engine: Any, Base: Any, version: Version) -> None:
    """Files are stored, replaced and deleted in the migrated tables; triggers write what raw SQL frees, once."""
    for name, table in version.items():
        quote = engine.dialect.identifier_preparer.quote
        before = freed(engine)
        with engine.connect() as connection:
            connection.execute(text(f"DELETE FROM {quote(name)}"))
            rows = (
                connection.execute(text("SELECT location FROM granite_storage_outbox")).scalars().all()
                if any(field.trigger for field in table.fields.values())
                else []
            )
            connection.rollback()
        held = named(engine, {name: table})
        with_triggers = {column: field for column, field in table.fields.items() if field.trigger}
        expected = named(engine, {name: type(table)(with_triggers, 0)})
        if with_triggers:
            assert sorted(set(rows) - before) == sorted(expected & held)
            assert len([one for one in rows if one not in before]) == len(expected)
