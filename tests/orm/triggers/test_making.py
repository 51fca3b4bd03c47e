"""Triggers come and go with their tables, and are made by hand for tables that are there."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_mock_engine, event, inspect, select, text

from granite_storage import ConfigurationError, FileColumn, StoredObjectRefType
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.registry import registry_of
from granite_storage.orm.triggers import (
    TRIGGER_VERSION,
    create_triggers,
    drop_triggers,
    has_trigger,
    trigger_of,
    triggers_stand,
)
from tests.orm.triggers.worlds import TriggerWorld, ref_text

LEFT_OVER = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL "
    "SELECT proname FROM pg_proc WHERE proname LIKE '%\\_\\_free'",
    "mariadb": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
}


def made(engine: Engine) -> Collection[str]:
    """The triggers, and functions for them, that the database has."""
    with engine.connect() as connection:
        return connection.exec_driver_sql(LEFT_OVER[engine.dialect.name].replace("%", "%%")).scalars().all()


def document(metadata: MetaData, name: str = "document", **options: Any) -> Table:
    type_ = StoredObjectRefType("documents", **options)
    return Table(name, metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("report", type_))


def frees(engine: Engine, table: Table) -> list[str]:
    """What a raw DELETE in a table writes down, rolled back."""
    outbox = outbox_of(table.metadata)
    with engine.connect() as connection:
        name = connection.dialect.identifier_preparer.format_table(table)
        connection.execute(text(f"INSERT INTO {name} (id, report) VALUES (1, :ref)"), {"ref": ref_text("docs/a")})
        connection.execute(text(f"DELETE FROM {name}"))
        return list(connection.scalars(select(outbox.c.location)))


@pytest.fixture
def metadata() -> MetaData:
    return MetaData(info=metadata_options(triggers=True))


def test_tables_come_with_triggers_and_go_without_a_trace(engine):
    world = TriggerWorld(engine)
    for _ in range(2):  # the second time nothing is in the way
        world.metadata.create_all(engine)
        world.metadata.create_all(engine)
        assert frees(engine, world.Document.__table__) == ["docs/a"]
        world.metadata.drop_all(engine)
        assert made(engine) == []
        assert inspect(engine).get_table_names() == []


def test_tables_come_and_go_without_looking_first(engine, metadata):
    table = document(metadata)
    metadata.create_all(engine, checkfirst=False)
    assert frees(engine, table) == ["docs/a"]
    metadata.drop_all(engine, checkfirst=False)
    assert made(engine) == []


def test_a_table_that_is_added_later_has_triggers(engine, metadata):
    first = document(metadata)
    metadata.create_all(engine)
    second = document(metadata, "picture")
    metadata.create_all(engine)
    assert frees(engine, first) == frees(engine, second) == ["docs/a"]


def test_a_table_that_is_dropped_alone_leaves_the_others_their_triggers(engine, metadata):
    first, second = document(metadata), document(metadata, "picture")
    metadata.create_all(engine)
    first.drop(engine)
    assert frees(engine, second) == ["docs/a"]
    first.create(engine)
    assert frees(engine, first) == ["docs/a"]


def test_an_outbox_that_is_dropped_alone_takes_the_triggers_with_it(engine, metadata):
    table = document(metadata)
    metadata.create_all(engine)
    outbox_of(metadata).drop(engine)
    assert made(engine) == []
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, report) VALUES (1, :ref)"), {"ref": ref_text("docs/a")})
        connection.execute(text("DELETE FROM document"))
    metadata.create_all(engine)
    with engine.begin() as connection:
        create_triggers(connection, metadata)
    assert frees(engine, table) == ["docs/a"]


def test_a_table_that_is_created_without_an_outbox_gets_no_triggers_and_a_warning(engine, metadata, caplog):
    table = document(metadata)
    with caplog.at_level(logging.WARNING, "granite_storage"):
        table.create(engine)
    assert made(engine) == []
    assert "'granite_storage_outbox'" in caplog.text
    assert "create_triggers(connection, table)" in caplog.text
    with engine.begin() as connection, pytest.raises(ConfigurationError, match="create_all"):
        create_triggers(connection, table)
    metadata.create_all(engine)
    with engine.begin() as connection:
        create_triggers(connection, table)
    assert frees(engine, table) == ["docs/a"]


def test_triggers_are_made_anew_and_dropped_by_hand(engine, metadata):
    table = document(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        create_triggers(connection, metadata)
        create_triggers(connection, table)
    assert frees(engine, table) == ["docs/a"]
    with engine.begin() as connection:
        drop_triggers(connection, metadata)
        drop_triggers(connection, table)
        assert not triggers_stand(connection, table.c.report)
    assert frees(engine, table) == []


def test_names_that_need_quotes_are_quoted(engine):
    metadata = MetaData(info=metadata_options(triggers=True, outbox="the 100% outbox"))
    type_ = StoredObjectRefType("documents", location_index=False)
    table = Table("Select o'%s", metadata, Column("id", Integer, primary_key=True), Column("from", type_))
    metadata.create_all(engine)
    with engine.begin() as connection:
        assert triggers_stand(connection, table.c["from"])
        names = connection.dialect.identifier_preparer
        target, column = names.format_table(table).replace("%%", "%"), names.quote("from")
        statement = f"INSERT INTO {target} (id, {column}) VALUES (1, '{ref_text('docs/a')}')"
        for one in (statement, f"DELETE FROM {target}"):
            connection.exec_driver_sql(one, execution_options={"no_parameters": True})
        outbox = outbox_of(metadata)
        (row,) = connection.execute(select(outbox.c.location, outbox.c.source))
    assert tuple(row) == ("docs/a", "Select o'%s.from")
    metadata.drop_all(engine)
    assert made(engine) == []


@pytest.mark.databases("postgresql", "mariadb")
def test_tables_and_outbox_in_a_schema(engine, database):
    schema = f"{database.url.database}_shop"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    try:
        metadata = MetaData(schema=schema, info=metadata_options(triggers=True))
        table = document(metadata)
        metadata.create_all(engine)
        assert frees(engine, table) == ["docs/a"]
        with engine.connect() as connection:
            assert triggers_stand(connection, table.c.report)
            columns = registry_of(metadata).c
            assert connection.scalar(select(columns.schema_name).where(columns.table_name != "")) == schema
        metadata.drop_all(engine)
        assert made(engine) == []
    finally:
        drop_schema(engine, schema)


@pytest.mark.databases("postgresql", "mariadb")
def test_a_table_in_another_schema_than_the_outbox(engine, database):
    schema = f"{database.url.database}_shop"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    try:
        metadata = MetaData(info=metadata_options(triggers=True))
        type_ = StoredObjectRefType("documents")
        table = Table(
            "document", metadata, Column("id", Integer, primary_key=True), Column("report", type_), schema=schema
        )
        metadata.create_all(engine)
        assert frees(engine, table) == ["docs/a"]
        metadata.drop_all(engine)
        assert made(engine) == []
    finally:
        drop_schema(engine, schema)


@pytest.mark.databases("postgresql", "mariadb")
def test_a_schema_per_tenant(engine, database, metadata):
    table = document(metadata)
    tenants = [f"{database.url.database}_{name}" for name in ("one", "two")]
    with engine.begin() as connection:
        for tenant in tenants:
            connection.exec_driver_sql(f"CREATE SCHEMA {tenant}")
    try:
        engines = [engine.execution_options(schema_translate_map={None: tenant}) for tenant in tenants]
        for one in engines:
            metadata.create_all(one)
        with engines[0].begin() as connection:
            assert triggers_stand(connection, table.c.report)
            name = f"{tenants[0]}.document"
            connection.execute(text(f"INSERT INTO {name} (id, report) VALUES (1, :ref)"), {"ref": ref_text("docs/a")})
            connection.execute(text(f"DELETE FROM {name}"))
        written = []
        for one in engines:
            with one.connect() as connection:
                outbox = outbox_of(metadata)
                written.append([tuple(row) for row in connection.execute(select(outbox.c.location, outbox.c.source))])
        assert written == [[("docs/a", "document.report")], []]
        metadata.drop_all(engines[0])
        with engines[1].connect() as connection:
            assert triggers_stand(connection, table.c.report)
        metadata.drop_all(engines[1])
        assert made(engine) == []
    finally:
        for tenant in tenants:
            drop_schema(engine, tenant)


@pytest.mark.databases("sqlite")
def test_on_sqlite_the_outbox_has_to_be_in_the_file_of_the_table(engine, tmp_path):
    @event.listens_for(engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        autocommit = getattr(connection, "autocommit", None)
        if autocommit is not None:
            connection.autocommit = True
        connection.execute(f"ATTACH '{tmp_path}/shop.db' AS shop").close()
        if autocommit is not None:
            connection.autocommit = autocommit

    metadata = MetaData(schema="shop", info=metadata_options(triggers=True))
    table = document(metadata, location_index=False)
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert triggers_stand(connection, table.c.report)
    assert frees(engine, table) == ["docs/a"]
    metadata.drop_all(engine)
    apart = MetaData(info=metadata_options(triggers=True))
    type_ = StoredObjectRefType("documents", location_index=False)
    Table("document", apart, Column("id", Integer, primary_key=True), Column("report", type_), schema="shop")
    with pytest.raises(ConfigurationError, match="another database file"):
        apart.create_all(engine)


def test_the_registry_holds_the_version_of_the_triggers(engine, metadata):
    table, registry = document(metadata), registry_of(metadata)
    fields = select(registry.c.table_name, registry.c.column_name, registry.c.policy, registry.c.trigger_version)
    fields = fields.where(registry.c.table_name != "")  # not the database's own row

    def noted() -> list[Any]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(fields)]

    metadata.create_all(engine)
    assert noted() == [("document", "report", "documents", TRIGGER_VERSION)]
    with engine.begin() as connection:
        drop_triggers(connection, table)
    assert noted() == [("document", "report", "documents", None)]
    with engine.begin() as connection:
        create_triggers(connection, table)
    assert noted() == [("document", "report", "documents", TRIGGER_VERSION)]
    table.drop(engine)
    assert noted() == []


def test_a_copied_metadata_makes_the_same_triggers(engine, metadata):
    document(metadata)
    copy = MetaData(info=metadata.info)
    table = metadata.tables["document"].to_metadata(copy)
    assert has_trigger(table.c.report)
    copy.create_all(engine)
    assert frees(engine, table) == ["docs/a"]
    copy.drop_all(engine)
    assert made(engine) == []


@pytest.mark.parametrize("name", ["sqlite", "postgresql+psycopg", "mariadb+pymysql", "mysql+pymysql"])
def test_the_statements_can_be_printed(metadata, name):
    document(metadata, location_index=False)
    printed: list[str] = []
    mock = create_mock_engine(
        f"{name}://", lambda sql, *args, **kw: printed.append(str(sql.compile(dialect=mock.dialect)))
    )
    metadata.create_all(mock, checkfirst=False)
    metadata.drop_all(mock, checkfirst=False)
    assert sum(one.startswith("CREATE TRIGGER") for one in printed) == (3 if name.startswith("postgresql") else 2)


def test_the_database_is_not_asked_what_is_declared():
    plain, all_of_it = MetaData(), MetaData(info=metadata_options(triggers=True))
    assert not has_trigger(document(plain).c.report)
    assert has_trigger(document(plain, "picture", trigger=True).c.report)
    assert has_trigger(document(all_of_it).c.report)
    assert not has_trigger(document(all_of_it, "picture", trigger=False).c.report)
    assert not has_trigger(document(all_of_it, "sound").c.id)


def test_a_field_says_whether_it_has_triggers(Base):
    class Picture(Base):
        __tablename__ = "picture"
        id = Column(Integer, primary_key=True)
        image = FileColumn("documents", trigger=True)
        thumbnail = FileColumn("documents")

    columns = Picture.__table__.c
    assert has_trigger(columns.image)
    assert not has_trigger(columns.thumbnail)
    assert repr(columns.image.type) == "StoredObjectRefType('documents')"


def test_triggers_without_an_outbox_or_a_policy_are_refused():
    metadata = MetaData(info=metadata_options(outbox=None))
    with pytest.raises(ConfigurationError, match="triggers write the outbox, and the MetaData is to have none"):
        document(metadata, trigger=True)
    with pytest.raises(ConfigurationError, match="takes a policy"):
        StoredObjectRefType(trigger=True)


def test_what_a_trigger_is_in_a_database(engine, metadata):
    table = document(metadata)
    metadata.create_all(engine)
    with engine.connect() as connection:
        trigger = trigger_of(connection, table.c.report)
    assert (trigger.table, trigger.column, trigger.outbox) == ("document", "report", "granite_storage_outbox")
    assert trigger.outbox_schema == ("public" if engine.dialect.name == "postgresql" else None)


def drop_schema(engine: Engine, schema: str) -> None:
    with engine.begin() as connection:
        cascade = " CASCADE" if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP SCHEMA {schema}{cascade}")
