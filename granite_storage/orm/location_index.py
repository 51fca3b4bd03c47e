"""The index on the locations of a file column, which keeps "does any row name this object?" from scanning the table.

It is one of the :mod:`~granite_storage.orm.member_index` kind, that every file column has unless it is turned off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import collate
from sqlalchemy.orm import InstrumentedAttribute

from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS, INDEX_KEY, indexed_member, member_index_name
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection
    from sqlalchemy.sql.elements import ColumnElement

__all__ = ["has_location_index", "in_byte_order", "indexed_location", "location_index_name"]


def location_index_name(table: str, column: str) -> str:
    """The name of a file column's location index.

    >>> location_index_name("document", "report")
    'ix_document__report__location'
    """
    return member_index_name(table, column, "location")


def has_location_index(column: Column[Any]) -> bool:
    """Whether a file column is declared with its location index."""
    return any(index.info.get(INDEX_KEY) == (column.name, "location") for index in column.table.indexes)


def indexed_location(connection: Connection, column: Column[Any] | InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """The expression to search a file column's locations by, so that the database uses the index.

    On MariaDB and MySQL the generated column if the table has it (asked once an engine), for applications too:
    ``select(Document).where(indexed_location(session.connection(), Document.report) == location)``.

    :param column: the column, or a mapped class's file field (not of an alias).
    """
    of: Column[Any] = column.property.columns[0] if isinstance(column, InstrumentedAttribute) else column
    return indexed_member(connection, FileComparator(of).location)


def in_byte_order(dialect: str, place: ColumnElement[str]) -> ColumnElement[str]:
    """An expression for locations, so that it is compared, and sorted, byte by byte, as stores list.

    SQLite, MariaDB and MySQL use the location index for it. PostgreSQL keeps that in the order of a language.
    """
    if dialect == "postgresql":
        return collate(place, "C")
    if dialect in GENERATED_COLUMN_DIALECTS and not hasattr(place, "table"):  # JSON_VALUE() itself
        return collate(place, "utf8mb4_bin")
    return place
