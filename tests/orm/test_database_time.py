"""The database's own clock, in SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, bindparam, insert, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

from granite_storage.orm.database_time import database_time, instant_type


@pytest.fixture
def moments(engine: Engine) -> Table:
    """A table of instants, which the database fills in."""
    table = Table(
        "moments",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", instant_type(), server_default=database_time()),
    )
    table.create(engine)
    return table


def utc(value: datetime) -> datetime:
    """An instant that was read, in UTC; a database without time zones gives naive ones."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now(connection: Connection, *later: Any) -> datetime:
    return utc(connection.scalar(select(database_time(*later))))


def elsewhere(connection: Connection) -> None:
    """Put the connection into another time zone, where the database has some."""
    zones = {"postgresql": "SET TIME ZONE '+05:00'", "mariadb": "SET time_zone = '+05:00'"}
    if connection.dialect.name in zones:
        connection.execute(text(zones[connection.dialect.name]))


def test_it_is_utc_whatever_the_time_zone_of_the_connection(engine: Engine, moments: Table) -> None:
    with engine.begin() as connection:
        before = now(connection)
        elsewhere(connection)
        connection.execute(insert(moments))
        connection.execute(text("SELECT 1"))
        after = now(connection)
        at = utc(connection.scalar(select(moments.c.at)))
    assert before <= at <= after
    assert abs(at - datetime.now(UTC)) < timedelta(hours=1)


def test_it_goes_on_within_a_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        first = now(connection)
        while now(connection) == first:  # a clock that stood still would hang here
            pass
        assert now(connection) > first


def test_an_argument_is_so_many_seconds_later(engine: Engine) -> None:
    with engine.begin() as connection:
        for seconds in (3600, 0.5, -86400):
            earlier = now(connection)
            found = connection.scalar(select(database_time(bindparam("seconds"))), {"seconds": seconds})
            later = now(connection)
            assert earlier <= utc(found) - timedelta(seconds=seconds) <= later


def test_what_python_writes_compares_with_it(engine: Engine, moments: Table) -> None:
    with engine.begin() as connection:
        instant = now(connection)
        if engine.dialect.name != "postgresql":
            instant = instant.replace(tzinfo=None)
        past, future = instant - timedelta(milliseconds=1), instant + timedelta(hours=1)
        connection.execute(insert(moments), [{"id": 1, "at": past}, {"id": 2, "at": future}])
        due = select(moments.c.id).where(moments.c.at <= database_time())
        assert connection.scalars(due).all() == [1]


@pytest.mark.parametrize(
    ("dialect", "plain", "later"),
    [
        (postgresql.dialect(), "clock_timestamp()", "make_interval(secs => CAST("),
        (sqlite.dialect(), "strftime('%Y-%m-%d %H:%M:%f000', 'now')", "|| ' seconds')"),
        (mysql.dialect(), "(utc_timestamp(6))", "+ INTERVAL %s SECOND)"),
    ],
    ids=["postgresql", "sqlite", "mysql"],
)
def test_each_dialect_spells_it_its_own_way(dialect: Any, plain: str, later: str) -> None:
    assert str(database_time().compile(dialect=dialect)).replace("%%", "%") == plain
    assert later in str(database_time(bindparam("s")).compile(dialect=dialect))


def test_mysql_keeps_fractions_of_a_second() -> None:
    table = Table("t", MetaData(), Column("at", instant_type(), server_default=database_time()))
    assert "DATETIME(6) DEFAULT (utc_timestamp(6))" in str(CreateTable(table).compile(dialect=mysql.dialect()))
