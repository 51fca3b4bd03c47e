"""The registry: this database's id, and how far its sweeps have come."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_mock_engine, delete, event, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import ConfigurationError, FileColumn, FileMapped, StoredFile
from granite_storage.orm.options import metadata_options
from granite_storage.orm.registry import (
    add_registry,
    database_id,
    known_database_id,
    new_database_id,
    registry_of,
    set_watermark,
    watermark,
)


def declare(metadata: MetaData) -> MetaData:
    class Base(DeclarativeBase):
        pass

    Base.metadata = metadata

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: FileMapped[StoredFile | None] = FileColumn("notes")

    return metadata


@pytest.fixture
def registry(engine: Engine) -> Table:
    metadata = declare(MetaData())
    metadata.create_all(engine)
    registry = registry_of(metadata)
    assert registry is not None
    return registry


# Which table it is


def test_it_joins_with_the_first_file_field_and_only_then() -> None:
    metadata = MetaData()
    Table("plain", metadata, Column("id", Integer, primary_key=True))
    assert registry_of(metadata) is None
    declare(metadata)
    assert registry_of(metadata) is metadata.tables["granite_storage_fields"]
    assert add_registry(metadata) is registry_of(metadata)


def test_it_may_have_a_name_and_a_schema_of_its_own() -> None:
    metadata = declare(MetaData(schema="shop", info=metadata_options(registry="file_fields")))
    assert registry_of(metadata) is metadata.tables["shop.file_fields"]


def test_a_table_of_that_name_that_is_the_applications_is_not_taken() -> None:
    metadata = MetaData()
    Table("granite_storage_fields", metadata, Column("id", Integer, primary_key=True))
    assert registry_of(metadata) is None
    with pytest.raises(ConfigurationError, match=r"metadata_options\(registry="):
        declare(metadata)


# The database's id


def test_a_database_gets_a_random_id_once(engine: Engine, registry: Table) -> None:
    with engine.connect() as connection:
        made = database_id(connection, registry)
        assert not connection.in_transaction()
    assert uuid.UUID(made).version == 4
    with engine.connect() as connection:
        assert database_id(connection, registry) == made
        assert not connection.in_transaction()
        assert connection.scalar(select(func.count()).where(registry.c.database_id.is_not(None))) == 1


def test_it_has_one_as_soon_as_the_table_is_made(engine: Engine, registry: Table) -> None:
    with engine.connect() as connection:
        known = known_database_id(connection, registry)
        assert known is not None and known == database_id(connection, registry)


def test_a_script_for_several_databases_holds_no_id() -> None:
    script: list[str] = []
    mock: Any = create_mock_engine("sqlite://", lambda sql, *rest: script.append(str(sql)))
    declare(MetaData()).create_all(mock, checkfirst=False)
    assert script and not any("INSERT" in statement.upper() for statement in script)


def test_two_that_make_it_at_once_agree(engine: Engine, registry: Table) -> None:
    own = {"schema_name": "", "table_name": "", "column_name": ""}

    with engine.begin() as connection:
        connection.execute(delete(registry))
    others: list[str] = []

    def be_first(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT") and not others:
            others.append(statement)
            with engine.begin() as other:
                other.execute(insert(registry).values({**own, "database_id": "of the other"}))

    with engine.connect() as first:
        event.listen(first, "before_cursor_execute", be_first)
        assert database_id(first, registry) == "of the other"
    assert others


def test_a_copy_that_goes_its_own_way_gets_another_id(engine: Engine, registry: Table) -> None:
    with engine.connect() as connection:
        first = database_id(connection, registry)
        second = new_database_id(connection, registry)
        assert second != first
        assert database_id(connection, registry) == second


def test_a_database_that_has_none_yet_gets_a_new_one_at_once(engine: Engine, registry: Table) -> None:
    with engine.begin() as connection:
        connection.execute(delete(registry))
    with engine.connect() as connection:
        made = new_database_id(connection, registry)
        assert database_id(connection, registry) == made


# The watermark


def test_the_watermark_is_none_before_the_first_sweep(engine: Engine, registry: Table) -> None:
    with engine.connect() as connection:
        assert watermark(connection, registry) is None
        database_id(connection, registry)
        assert watermark(connection, registry) is None


def test_the_watermark_goes_forward_and_never_back(engine: Engine, registry: Table) -> None:
    instant = datetime(2026, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
    with engine.connect() as connection:
        database_id(connection, registry)
        for given, expected in (
            (instant, instant),
            (instant - timedelta(seconds=1), instant),
            (instant.astimezone(timezone(timedelta(hours=5))), instant),
            (instant + timedelta(microseconds=1), instant + timedelta(microseconds=1)),
        ):
            set_watermark(connection, registry, given)
            connection.commit()
            found = watermark(connection, registry)
            assert found == expected
            assert found is not None and found.utcoffset() == timedelta(0)


def test_the_watermark_is_the_callers_to_commit(engine: Engine, registry: Table) -> None:
    with engine.connect() as connection:
        database_id(connection, registry)
        set_watermark(connection, registry, datetime(2026, 1, 31, tzinfo=UTC))
        connection.rollback()
        assert watermark(connection, registry) is None
