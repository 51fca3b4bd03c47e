"""A table is gone through whole, each row once, in short transactions, whatever its primary key."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    REAL,
    Column,
    Engine,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import mysql, postgresql

from granite_storage import ConfigurationError
from granite_storage.maintenance.key_types import untellable
from granite_storage.maintenance.keyset import check_progress, stretches_of_rows
from granite_storage.orm.sites import Site


def _number(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


class _Wrapped(TypeDecorator[str]):
    impl = Enum("zeta", "alpha", "Mid", "mi", name="wrapped")
    cache_ok = True


NAMES = ("zeta", "alpha", "Mid", "mi")  # in the order of no alphabet

KEYS: dict[str, tuple[Callable[[], list[Column[Any]]], list[tuple[Any, ...]]]] = {
    "number": (lambda: [_number("a")], [(n,) for n in range(-7, 16)]),
    "several": (
        lambda: [_number(name) for name in "abc"],
        [(a, b, c) for a in range(3) for b in (0, 5, 9) for c in range(3)],
    ),
    "text": (
        lambda: [Column("a", String(20), primary_key=True)],
        [(name,) for name in ("a-b", "a/b", "A", "ab", "é", "ß", "z", "Zz", "_", "\uffee", "\U00010000", "a b")],
    ),
    "uuid": (
        lambda: [Column("a", Uuid, primary_key=True)],
        [(uuid.UUID(int=n * 7**40, version=n % 2 * 3 + 1),) for n in range(13)],
    ),
    "enum": (
        lambda: [Column("a", Enum(*NAMES, name="names"), primary_key=True)],
        [(name,) for name in NAMES],
    ),
    "enum and number": (
        lambda: [Column("a", _Wrapped, primary_key=True), _number("b")],
        [(name, n) for name in NAMES for n in range(4)],
    ),
    "number and enum": (
        lambda: [_number("a"), Column("b", Enum(*NAMES, name="names"), primary_key=True)],
        [(n, name) for name in NAMES for n in range(4)],
    ),
    "single precision": (
        lambda: [Column("a", Float().with_variant(REAL(), "postgresql"), primary_key=True, autoincrement=False)],
        [(n * 0.5,) for n in range(7)],
    ),
    "none": (lambda: [Column("a", Integer)], [(n % 5,) for n in range(13)]),
}


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", KEYS)
def test_each_row_comes_once(engine: Engine, kind: str, size: int) -> None:
    columns, rows = KEYS[kind]
    metadata = MetaData()
    table = Table("row", metadata, *columns())
    metadata.create_all(engine)
    names = [column.name for column in table.columns]
    with engine.begin() as connection:
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
    keys: Any = list(table.primary_key.columns)
    found = []
    for stretch in stretches_of_rows(Site.of(engine, metadata), select(table.c.a, *(keys or table.c)), keys, size):
        assert len(stretch) <= size
        if keys and kind != "single precision":
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        found += [tuple(row)[1:] for row in stretch]
    assert sorted(found, key=repr) == sorted(rows, key=repr)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_rows_whose_key_is_rounded_come_once(engine: Engine, size: int) -> None:
    """What is read as 0.1 is found behind 0.1 again."""
    metadata = MetaData()
    table = Table(
        "row", metadata, Column("a", Float().with_variant(REAL(), "postgresql"), primary_key=True, autoincrement=False)
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"a": n / 10} for n in range(1, 8)])
    found = []
    for stretch in stretches_of_rows(Site.of(engine, metadata), select(table.c.a), [table.c.a], size):
        found += [round(row.a, 3) for row in stretch]
        assert len(found) < 10, "it goes on for ever"
    assert sorted(found) == [n / 10 for n in range(1, 8)]


@pytest.mark.databases("mariadb")
@pytest.mark.parametrize("size", [1, 2, 100])
def test_rows_whose_key_is_a_set_come_once(engine: Engine, size: int) -> None:
    metadata = MetaData()
    table = Table("row", metadata, Column("a", mysql.SET("z", "a", "m"), primary_key=True))
    metadata.create_all(engine)
    sets = [{"z"}, {"a"}, {"m"}, {"z", "a"}, {"a", "m"}, {"z", "a", "m"}]
    with engine.begin() as connection:
        connection.execute(insert(table), [{"a": one} for one in sets])
    site = Site.of(engine, metadata)
    found = [row.a for rows in stretches_of_rows(site, select(table.c.a), [table.c.a], size) for row in rows]
    assert sorted(found, key=sorted) == sorted(sets, key=sorted)


@pytest.mark.databases("mariadb")
def test_names_that_differ_in_case_only_are_two(engine: Engine) -> None:
    """In the order by which they are compared, whatever their collation, and whatever the character set."""
    metadata = MetaData()
    kind = mysql.ENUM("b", "B", "\u00e9", "a", "\u00df", "A", charset="latin1", collation="latin1_bin")
    table = Table("row", metadata, Column("a", kind, primary_key=True))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"a": name} for name in kind.enums])
    site = Site.of(engine, metadata)
    found = [row.a for rows in stretches_of_rows(site, select(table.c.a), [table.c.a], 1) for row in rows]
    assert sorted(found) == sorted(kind.enums)


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("size", [1, 2, 100])
def test_rows_whose_key_is_null_in_part_come_once(engine: Engine, size: int) -> None:
    metadata = MetaData()
    table = Table("row", metadata, Column("a", Text, primary_key=True), Column("b", Text, primary_key=True))
    rows: list[tuple[str | None, str | None]] = [("x", "1"), (None, "1"), ("x", None), (None, None), (None, None)]
    rows += [("y", "1"), ("y", "2"), ("a", None)]
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE row (a TEXT, b TEXT, PRIMARY KEY (a, b))"))
        connection.execute(insert(table), [{"a": a, "b": b} for a, b in rows])
    site = Site.of(engine, metadata)
    found = [tuple(row) for part in stretches_of_rows(site, select(table), [*table.c], size) for row in part]
    assert sorted(found, key=repr) == sorted(rows, key=repr)


def test_a_page_that_does_not_go_on_is_an_error() -> None:
    check_progress("document", None, (1,))
    check_progress("document", (1,), (2,))
    with pytest.raises(ConfigurationError, match="document: the database gives its primary key as"):
        check_progress("document", (0.1,), [0.1])


@pytest.mark.parametrize(
    ("dialect", "kind", "told"),
    [
        ("mysql", Float(), "single precision"),
        ("mariadb", mysql.FLOAT(), "single precision"),
        ("mysql", Float(53), None),
        ("mysql", mysql.DOUBLE(), None),
        ("mysql", REAL(), None),
        ("postgresql", REAL(), "single precision"),
        ("postgresql", Float(24), "single precision"),
        ("postgresql", Float(), None),
        ("sqlite", REAL(), None),
        ("mysql", String(9).with_variant(mysql.SET("a"), "mysql"), "SET"),
        ("postgresql", String(9).with_variant(mysql.SET("a"), "mysql"), None),
        ("postgresql", postgresql.JSONB(), "JSONB"),
        ("postgresql", postgresql.ARRAY(Integer), "ARRAY"),
        ("postgresql", postgresql.ARRAY(Integer, as_tuple=True), None),
    ],
)
def test_keys_that_tell_no_rows_are_told(dialect: str, kind: Any, told: str | None) -> None:
    problem = untellable(dialect, [_number("id"), Column("part", kind)])
    assert problem is None if told is None else problem is not None and told in problem and "'part'" in problem
