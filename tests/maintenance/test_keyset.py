"""A table is gone through whole, each row once, in short transactions, whatever its primary key."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, Uuid, insert, select

from granite_storage.maintenance.keyset import stretches_of_rows
from granite_storage.orm.sites import Site


def _number(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


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
        if keys:
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        found += [tuple(row)[1:] for row in stretch]
    assert sorted(found, key=repr) == sorted(rows, key=repr)
