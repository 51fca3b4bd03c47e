"""Sites: which database and which schemas, and a connection of our own to work at."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text

from granite_storage.orm.sites import Site

ISOLATION = {
    "postgresql": "SHOW transaction_isolation",
    "mariadb": "SELECT @@tx_isolation",
}


def test_a_site_is_a_metadata_in_a_database_under_a_translate_map(engine: Engine) -> None:
    metadata = MetaData()
    with engine.connect() as connection:
        assert Site.of(connection, metadata) == Site.of(engine, metadata)
        assert hash(Site.of(connection, metadata)) == hash(Site.of(engine, metadata))
        tenant = Site.of(connection.execution_options(schema_translate_map={None: "a", "x": None}), metadata)
    assert tenant != Site.of(engine, metadata)
    assert tenant == Site.of(engine.execution_options(schema_translate_map={"x": None, None: "a"}), metadata)
    assert Site.of(engine, MetaData()) != Site.of(engine, metadata)
    assert Site.of(engine.execution_options(logging_token="x"), metadata) == Site.of(engine, metadata)


def test_a_desk_is_a_connection_of_our_own(engine: Engine) -> None:
    with engine.connect() as other, Site.of(engine, MetaData()).desk() as desk:
        assert desk.connection.connection.dbapi_connection is not other.connection.dbapi_connection
        assert not desk.connection.in_transaction()
        desk.connection.execute(text("SELECT 1"))
    assert desk.connection.closed


@pytest.mark.databases("postgresql", "mariadb")
def test_it_reads_what_is_committed_by_then_and_holds_locks(engine: Engine) -> None:
    repeatable = engine.execution_options(isolation_level="REPEATABLE READ")
    with Site.of(repeatable, MetaData()).desk() as desk:
        level = desk.connection.scalar(text(ISOLATION[engine.dialect.name]))
        assert level.replace("-", " ").upper() == "READ COMMITTED"
        assert desk.holds_locks
        desk.end_step()
        assert desk.connection.in_transaction()
    with engine.connect() as connection:  # the pool's connections are as they were
        level = connection.scalar(text(ISOLATION[engine.dialect.name]))
        usual = {"postgresql": "READ COMMITTED", "mariadb": "REPEATABLE READ"}
        assert level.replace("-", " ").upper() == usual[engine.dialect.name]


@pytest.mark.databases("sqlite")
def test_without_row_locks_each_step_is_a_transaction(engine: Engine) -> None:
    with Site.of(engine, MetaData()).desk() as desk:
        assert not desk.holds_locks
        desk.connection.execute(text("SELECT 1"))
        desk.end_step()
        assert not desk.connection.in_transaction()


def test_an_idle_connection_of_the_same_database_is_used_and_left_idle(engine: Engine) -> None:
    with engine.connect() as idle:
        with Site.of(engine, MetaData()).desk([idle]) as desk:
            assert desk.connection is idle
            assert not desk.holds_locks
            idle.execute(text("SELECT 1"))
        assert not idle.in_transaction()
        assert not idle.closed


def test_an_idle_connection_of_another_database_is_not_used(engine: Engine, memory_engine: Engine) -> None:
    with memory_engine.connect() as idle, Site.of(engine, MetaData()).desk([idle]) as desk:
        assert desk.connection.engine is engine


def test_a_desk_follows_the_translate_map(engine: Engine) -> None:
    tenant = engine.execution_options(schema_translate_map={None: "tenant"})
    with Site.of(tenant, MetaData()).desk() as desk:
        assert desk.connection.get_execution_options()["schema_translate_map"] == {None: "tenant"}


def test_an_idle_connection_is_lent_the_translate_map(engine: Engine) -> None:
    tenant = Site.of(engine.execution_options(schema_translate_map={None: "tenant"}), MetaData())
    with engine.connect() as idle:
        with tenant.desk([idle]) as desk:
            assert desk.connection.get_execution_options()["schema_translate_map"] == {None: "tenant"}
        assert not idle.get_execution_options().get("schema_translate_map")
