"""What only PostgreSQL has: TRUNCATE, roles, search paths, renamed columns, partitions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, MetaData, Table, text
from sqlalchemy.exc import DBAPIError

from granite_storage import StoredObjectRefType
from granite_storage.orm.triggers import create_triggers, triggers_stand
from tests.databases import Database
from tests.orm.triggers.worlds import TriggerWorld, ref_text

pytestmark = pytest.mark.databases("postgresql")


@pytest.fixture
def role(world: TriggerWorld, database: Database) -> Iterator[str]:
    """A role that may change the documents and nothing else."""
    name = f"{database.url.database}_app"
    rights = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"
    world.sql(f"CREATE ROLE {name}", f"GRANT USAGE ON SCHEMA public TO {name}", f"GRANT {rights} ON document TO {name}")
    yield name
    world.sql(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def insert(world: TriggerWorld, *locations: str) -> None:
    with world.engine.begin() as connection:
        for location in locations:
            connection.execute(text("INSERT INTO document (report) VALUES (:ref)"), {"ref": ref_text(location)})


def test_truncate_writes_what_it_frees(world):
    insert(world, "docs/a", "docs/b")
    world.sql("INSERT INTO document (report) VALUES (NULL), ('null'), ('7')", "TRUNCATE document")
    with world.engine.connect() as connection:
        written = [(row.location, row.source) for row in world.rows(connection)]
    assert sorted(written) == [("docs/a", "document.report"), ("docs/b", "document.report")]


def test_truncate_that_cascades_writes_what_it_frees(world):
    insert(world, "docs/a")
    world.sql("TRUNCATE folder CASCADE")
    assert world.freed() == ["docs/a"]


def test_a_truncate_that_is_rolled_back_writes_nothing(world):
    insert(world, "docs/a")
    with world.engine.connect() as connection:
        connection.execute(text("TRUNCATE document"))
        assert world.freed(connection) == ["docs/a"]
    assert world.freed() == []


def test_a_role_without_rights_on_the_outbox_frees_objects(world, role):
    insert(world, "docs/a", "docs/b", "docs/c")
    with world.engine.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        connection.execute(text("DELETE FROM document WHERE report ->> 'location' = 'docs/a'"))
        connection.execute(text("UPDATE document SET report = NULL WHERE report ->> 'location' = 'docs/b'"))
        connection.execute(text("TRUNCATE document"))
        assert triggers_stand(connection, world.Document.__table__.c.report)
    assert world.freed() == ["docs/a", "docs/b", "docs/c"]
    with world.engine.connect() as connection:
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text("INSERT INTO granite_storage_outbox (location) VALUES ('docs/x')"))


def test_nobody_else_may_make_triggers_that_write_the_outbox(world, role):
    world.sql(f"CREATE SCHEMA own AUTHORIZATION {role}")
    with world.engine.connect() as connection:
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        connection.execute(text("CREATE TABLE own.forged (report jsonb)"))
        with pytest.raises(DBAPIError, match="permission denied for function"):
            connection.execute(
                text(
                    "CREATE TRIGGER forged AFTER DELETE ON own.forged FOR EACH ROW "
                    "EXECUTE FUNCTION public.granite_storage_outbox__free('report', '')"
                )
            )


def test_the_search_path_of_the_caller_does_not_matter(world):
    insert(world, "docs/a", "docs/b")
    with world.engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE granite_storage_outbox (LIKE public.granite_storage_outbox)"))
        connection.execute(text("SET LOCAL search_path = pg_temp"))
        connection.execute(text("DELETE FROM public.document WHERE report ->> 'location' = 'docs/a'"))
        connection.execute(text("TRUNCATE public.document"))
        connection.execute(text("DROP TABLE pg_temp.granite_storage_outbox"))
    assert world.freed() == ["docs/a", "docs/b"]


def test_functions_of_the_caller_are_not_called(world):
    """SECURITY DEFINER with the caller's search_path would run the caller's code with the owner's rights."""
    insert(world, "docs/a")
    world.sql(
        "CREATE SCHEMA theirs",
        "CREATE FUNCTION theirs.quote_ident(text) RETURNS text LANGUAGE plpgsql "
        "AS $$BEGIN RAISE EXCEPTION 'called'; END$$",
    )
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL search_path = theirs, pg_catalog, public"))
        connection.execute(text("DELETE FROM document"))
    assert world.freed() == ["docs/a"]


def test_a_renamed_column_neither_fails_nor_stands_until_the_triggers_are_made_anew(world):
    insert(world, "docs/a", "docs/b")
    world.sql("ALTER TABLE document RENAME COLUMN report TO paper")
    with world.engine.begin() as connection:
        renamed = Table(
            "document", MetaData(info=world.metadata.info), Column("paper", StoredObjectRefType("documents"))
        )
        assert not triggers_stand(connection, renamed.c.paper)
        connection.execute(text("UPDATE document SET paper = NULL WHERE paper ->> 'location' = 'docs/a'"))
        connection.execute(text("DELETE FROM document"))
        connection.execute(text("TRUNCATE document"))
    assert world.freed() == []
    world.sql("ALTER TABLE document RENAME COLUMN paper TO report")
    with world.engine.begin() as connection:
        create_triggers(connection, world.Document.__table__)
    insert(world, "docs/c")
    world.sql("DELETE FROM document")
    assert world.freed() == ["docs/c"]


def test_other_columns_may_hold_json_that_jsonb_does_not_take(world):
    world.sql("ALTER TABLE document ADD COLUMN raw json")
    insert(world, "docs/a", "docs/b")
    world.sql(
        r"""UPDATE document SET raw = '{"text": "\u0000"}'""",
        "UPDATE document SET report = NULL WHERE report ->> 'location' = 'docs/a'",
        "DELETE FROM document",
    )
    assert world.freed() == ["docs/a", "docs/b"]


def test_an_object_that_changes_its_partition_stays(world):
    """To the database that is a DELETE and an INSERT; whoever deletes the object asks first who names it."""
    world.sql(
        "DROP TABLE document",
        "CREATE TABLE document (id int, title text, folder_id int, report jsonb, scan jsonb, draft jsonb) "
        "PARTITION BY LIST (id)",
        "CREATE TABLE document_1 PARTITION OF document FOR VALUES IN (1)",
        "CREATE TABLE document_2 PARTITION OF document FOR VALUES IN (2)",
    )
    with world.engine.begin() as connection:
        create_triggers(connection, world.Document.__table__)
    number = world.add(id=1, report=b"one")
    location = world.location(number)
    world.sql("UPDATE document SET id = 2")
    assert world.freed() == [location]
    with world.session() as session:
        session.get_one(world.Document, 2).title = "named"
        session.commit()
    world.check()
    world.sql("TRUNCATE document")
    assert world.freed() == [location, location]
