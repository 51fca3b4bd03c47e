from __future__ import annotations

import json
import logging

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, pool, select, text
from sqlalchemy.orm import Session

from granite_storage import ConfigurationError, StoredObjectRefType
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def copied_by_sql(world: World, key: int, ref: dict[str, object] | None = None) -> None:
    """Make a second row name the first one's object, behind the ORM's back."""
    with world.engine.begin() as connection:
        (value,) = connection.execute(text(f"SELECT report FROM document WHERE id = {key}")).one()
        if ref is not None:
            value = json.dumps(ref)
        value = value if isinstance(value, str) else json.dumps(value)
        connection.execute(text("INSERT INTO document (id, cover) VALUES (1000, :value)"), {"value": value})


def test_an_object_that_another_row_names_is_not_deleted(world: World) -> None:
    key = world.add(report=b"shared")
    copied_by_sql(world, key)
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
        assert world.contents() == [b"shared"]
        session.delete(session.get_one(world.Document, 1000))
        session.commit()
    assert world.objects() == set()


def test_an_object_freed_in_a_savepoint_is_asked_for_too(world: World) -> None:
    key = world.add(report=b"shared")
    copied_by_sql(world, key)
    with world.session() as session:
        with session.begin_nested():
            session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.contents() == [b"shared"]


def test_a_row_that_names_the_backend_as_0_1_0_did_counts_too(world: World) -> None:
    key = world.add(report=b"shared")
    (location,) = world.named()
    copied_by_sql(world, key, {"storage_key": "", "backend": "memory", "location": location, "size": 1, "checksum": ""})
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.objects() == {location}


def test_an_object_of_the_same_location_in_another_backend_does_not_count(world: World) -> None:
    from granite_storage import MemoryStorageBackend

    key = world.add(report=b"old")
    (location,) = world.named()
    copied_by_sql(world, key, {"storage_key": "", "backend": "other", "location": location, "size": 1, "checksum": ""})
    with world.manager.override(backends={"other": MemoryStorageBackend()}), world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.objects() == set()


@pytest.mark.parametrize("wrong", ["backend nobody knows", "no ref"])
def test_a_value_at_the_location_that_nobody_understands_keeps_the_object(world: World, wrong: str) -> None:
    key = world.add(report=b"old")
    (location,) = world.named()
    ref = {"backend": "unknown", "location": location, "size": 1, "checksum": "", "storage_key": ""}
    copied_by_sql(world, key, ref if wrong == "backend nobody knows" else {"location": location})
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.objects() == {location}


def test_columns_without_a_policy_are_references_too(world: World) -> None:
    Table("plain", world.Base.metadata, Column("id", Integer, primary_key=True), Column("ref", StoredObjectRefType()))
    world.Base.metadata.create_all(world.engine)
    key = world.add(report=b"shared")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        plain = world.Base.metadata.tables["plain"]
        session.execute(plain.insert().values(id=1, ref=document.report.ref))
        session.delete(document)
        session.commit()
        assert session.scalar(select(plain.c.ref)).location in world.objects()


def test_a_table_that_was_never_made_names_nothing(world: World) -> None:
    Table(
        "unmade",
        world.Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("f", StoredObjectRefType("covers")),
    )
    key = world.add(report=b"old")
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.objects() == set()


def test_rows_of_another_database_are_asked_through_the_engine_that_attach_was_told(world: World) -> None:
    other = create_engine("sqlite://", poolclass=pool.StaticPool, connect_args={"check_same_thread": False})
    metadata = MetaData()
    table = Table(
        "elsewhere", metadata, Column("id", Integer, primary_key=True), Column("f", StoredObjectRefType("covers"))
    )
    world.manager.attach(metadata, engine=other)
    metadata.create_all(other)
    key = world.add(report=b"shared")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        with other.begin() as connection:
            connection.execute(table.insert().values(id=1, f=document.report.ref))
        session.delete(document)
        session.commit()
    assert world.contents() == [b"shared"]
    other.dispose()


def test_where_nobody_can_tell_the_database_nothing_is_deleted_and_the_log_says_why(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = MetaData()
    Table("elsewhere", metadata, Column("id", Integer, primary_key=True), Column("f", StoredObjectRefType("covers")))
    world.manager.attach(metadata)
    key = world.add(report=b"old")
    binds = {world.Base: world.engine}
    with Session(binds=binds) as session, caplog.at_level(logging.WARNING, "granite_storage"):
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.contents() == [b"old"]
    assert "manager.attach(Base, engine=...)" in caplog.text

    with Session(binds=binds) as session:
        session.add(world.Document(report=world.manager.store("documents", b"abc")))
        with pytest.raises(ConfigurationError, match="engine="):
            session.commit()


@pytest.mark.databases("postgresql")
def test_a_schema_translate_map_is_followed(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
    schemas = {"schema_translate_map": {None: "tenant"}}
    world.Base.metadata.create_all(world.engine.execution_options(**schemas))
    with world.session() as session:
        session.connection(execution_options=schemas)
        document = world.Document(report=b"tenant's")
        session.add(document)
        session.flush()
        key = document.id
        session.commit()
    assert world.named() == []  # nothing in the public schema
    with world.engine.begin() as connection:
        shared = f"SELECT 1000, report FROM tenant.document WHERE id = {key}"
        connection.execute(text(f"INSERT INTO tenant.document (id, cover) {shared}"))
    with world.session() as session:
        session.connection(execution_options=schemas)
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert world.contents() == [b"tenant's"]


def test_the_check_asks_once_a_column_however_many_objects(world: World) -> None:
    keys = [world.add(report=b"abc") for _ in range(20)]
    with world.session() as session:
        for key in keys:
            session.delete(session.get_one(world.Document, key))
        session.flush()
        with world.statements() as sent:
            session.commit()
    asked = [statement for statement in sent if statement.startswith("SELECT") and "location" in statement]
    checks = [statement for statement in asked if "FROM granite_storage_outbox" not in statement.replace("\n", " ")]
    assert len(asked) == len(checks) + 1  # the outbox rows, claimed once
    assert len(checks) == 5  # document.report, .scan, .cover, person.photo, author.contract
    assert world.objects() == set()
