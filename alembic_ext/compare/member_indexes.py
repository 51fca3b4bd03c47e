"""Indexes on members of refs, such as a location: in the models, and by name in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, Table, text
from sqlalchemy.sql import visitors

from granite_storage.orm.members import RefMember
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

__all__ = ["index_names", "member_indexes", "sqlite_indexes"]


def member_indexes(table: Table) -> list[Index]:
    """The indexes of a table that contain a member of a ref; in the order of their names."""
    found = [index for index in table.indexes if any(map(_has_member, index.expressions))]
    return sorted(found, key=lambda index: str(index.name))


def _has_member(expression: Any) -> bool:
    """Whether it is an SQL attribute of a file column, or is made of one."""
    return not isinstance(expression, Column) and any(
        isinstance(element, RefMember)
        or (isinstance(element, Column) and isinstance(element.type, StoredObjectRefType))  # extra["key"]
        for element in visitors.iterate(expression)
    )


def index_names(context: AutogenContext, table: str, schema: str | None) -> set[str]:
    """The names of a table's indexes in the database, those on expressions too."""
    assert context.dialect is not None
    if context.dialect.name == "sqlite":
        return set(sqlite_indexes(context, table, schema))
    return {str(index["name"]) for index in context.inspector.get_indexes(table, schema=schema)}


def sqlite_indexes(context: AutogenContext, table: str, schema: str | None) -> dict[str, str]:
    """The CREATE INDEX statements of a table in SQLite, by name: SQLAlchemy does not reflect indexes on expressions."""
    assert context.connection is not None
    quote = context.connection.dialect.identifier_preparer.quote_identifier
    master = f"{quote(schema)}.sqlite_master" if schema else "sqlite_master"
    statement = text(
        f"SELECT name, sql FROM {master} "
        "WHERE type = 'index' AND lower(tbl_name) = lower(:table) AND sql IS NOT NULL ORDER BY name"
    )
    return {row.name: row.sql for row in context.connection.execute(statement, {"table": table})}
