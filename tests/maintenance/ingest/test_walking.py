"""Rows that are read again, and what ends that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy import column, table
from sqlalchemy.sql.elements import ColumnElement

from granite_storage.maintenance.ingest.keyed_table import Key, KeyedTable
from granite_storage.maintenance.ingest.walking import _again


class _Renamed:
    """Rows whose keys the database gives otherwise than it was asked for, as a collation that sees no case does."""

    def __init__(self) -> None:
        self.pages = 0

    def page(self, which: ColumnElement[bool]) -> list[Any]:
        self.pages += 1
        assert self.pages < 10, "it never ends"
        return [SimpleNamespace(key=("A",))]

    def convert(self, rows: Any) -> list[Key]:
        return []


def test_a_key_that_comes_back_otherwise_is_not_read_for_ever() -> None:
    key = column("id")
    keyed = KeyedTable(table("document", key), (key,), {}, frozenset(), "mariadb")
    assert [*_again(keyed, _Renamed(), [("a",)])] == []
