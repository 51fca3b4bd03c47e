"""The index on the locations of a file column, which keeps "does any row name this object?" from scanning the table.

SQLite and PostgreSQL index the expression. MariaDB indexes no expressions, so there (and on MySQL) an invisible
generated column holds the location and is indexed; the ORM never sees it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Index, event, inspect
from sqlalchemy import column as sql_column
from sqlalchemy.orm import InstrumentedAttribute

from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Pool, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql.elements import ColumnClause, ColumnElement

__all__ = [
    "GENERATED_COLUMN_DIALECTS",
    "INDEX_KEY",
    "add_location_index",
    "generated_column_ddl",
    "generated_column_name",
    "indexed_location",
    "location_index_name",
]

INDEX_KEY = "granite_storage.location_of"
"""In ``Index.info``: the name of the file column that a location index belongs to."""

GENERATED_COLUMN_DIALECTS = ("mysql", "mariadb")
_EXPRESSION_DIALECTS = ("sqlite", "postgresql")
_MAX_NAME = 60  # PostgreSQL has 63 bytes for a name, MariaDB 64 characters
_columns_found: WeakKeyDictionary[Pool, dict[tuple[str | None, str], set[str]]] = WeakKeyDictionary()


def location_index_name(table: str, column: str) -> str:
    """The name of a file column's location index, which no ``index=True`` of another column gets.

    A long one is cut and told apart by a hash.

    >>> location_index_name("document", "report")
    'ix_document__report__location'
    """
    return _fitted(f"ix_{table}__{column}__location")


def generated_column_name(column: str) -> str:
    """The name of the generated column that holds a file column's location on MariaDB and MySQL.

    >>> generated_column_name("report")
    'report__location'
    """
    return _fitted(f"{column}__location")


def _fitted(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME:
        return name
    cut = name.encode()[: _MAX_NAME - 9].decode(errors="ignore")
    return f"{cut}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def add_location_index(table: Table, column: Column[Any]) -> None:
    """Give a table the index on the locations of a file column; once, however often it is called."""
    name = location_index_name(table.name, column.name)
    if any(index.info.get(INDEX_KEY) == column.name for index in table.indexes):
        return
    location: ColumnElement[str] = FileComparator(column).location
    # _column_flag, as Column(index=True) has it: a table made by to_metadata() makes its own instead of a copy
    index = Index(name, location, info={INDEX_KEY: column.name}, _column_flag=True)
    index.ddl_if(dialect=_EXPRESSION_DIALECTS)  # type: ignore[arg-type]  # one or several, says its documentation

    def add_generated_column(target: Table, connection: Connection, **_: Any) -> None:
        if connection.dialect.name in GENERATED_COLUMN_DIALECTS:
            schema = connection.schema_for_object(target)
            connection.exec_driver_sql(generated_column_ddl(connection.dialect, target.name, column.name, schema))

    event.listen(table, "after_create", add_generated_column)


def generated_column_ddl(dialect: Dialect, table: str, column: str, schema: str | None = None) -> str:
    """The statement that adds the generated column and its index on MariaDB and MySQL."""
    quote = dialect.identifier_preparer.quote
    target = f"{quote(schema)}.{quote(table)}" if schema else quote(table)
    generated = quote(generated_column_name(column))
    returning = "" if getattr(dialect, "is_mariadb", False) else " RETURNING CHAR(1024)"
    return (
        f"ALTER TABLE {target} ADD COLUMN {generated} VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin "
        f"GENERATED ALWAYS AS (JSON_VALUE({quote(column)}, '$.location'{returning})) VIRTUAL INVISIBLE, "
        f"ADD INDEX {quote(location_index_name(table, column))} ({generated}(255))"
    )


def indexed_location(connection: Connection, column: Column[Any] | InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """The expression to search a file column's locations by, so that the database uses the index.

    On MariaDB and MySQL the generated column if the table has it (asked once an engine), for applications too:
    ``select(Document).where(indexed_location(session.connection(), Document.report) == location)``.

    :param column: the column, or a mapped class's file field (not of an alias).
    """
    of: Column[Any] = column.property.columns[0] if isinstance(column, InstrumentedAttribute) else column
    location: ColumnElement[str] = FileComparator(of).location
    if connection.dialect.name not in GENERATED_COLUMN_DIALECTS:
        return location
    table, schema = of.table, connection.schema_for_object(of.table)
    known = _columns_found.setdefault(connection.engine.pool, {})
    generated = generated_column_name(of.name)
    if generated not in known.get((schema, table.name), ()):  # asked until it is there: a migration may add it any time
        columns = inspect(connection).get_columns(table.name, schema)
        known[schema, table.name] = {found["name"] for found in columns}
        if generated not in known[schema, table.name]:
            return location
    place: ColumnClause[str] = sql_column(generated, location.type)
    place.table = table  # not in the Table, where the ORM and autogenerate would find it
    return place
