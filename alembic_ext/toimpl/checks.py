"""What a script names is looked for before anything is done, so that a wrong name leaves everything as it was.

A database in ``--sql`` mode cannot be asked: there the statements fail when they are run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

__all__ = ["check_columns", "check_indexes", "check_unused"]


def check_columns(place: Place, table: str, columns: list[str], schema: str | None) -> None:
    """See that a table has columns.

    :raises ConfigurationError: if there is no such table, or one of the columns is missing.
    """
    connection = place.connection
    if connection is None:
        return
    if not inspect(connection).has_table(table, schema):
        where = "the default schema" if schema is None else f"schema {schema!r}"
        raise _wrong(f"{where} has no table {table!r}; give the table's name as it is in the database at this point")
    present = [column["name"] for column in inspect(connection).get_columns(table, schema)]
    for column in columns:
        if column not in present:
            names = ", ".join(map(repr, present))
            raise _wrong(
                f"table {table!r} has no column {column!r}, but {names}; give the name that it has at this point"
            )


def check_unused(place: Place, table: str, column: str | None, schema: str | None) -> None:
    """See that a name for a table, or for a column of one, is not taken.

    :raises ConfigurationError: if it is.
    """
    connection = place.connection
    if connection is None:
        return
    if column is None and inspect(connection).has_table(table, schema):
        raise _wrong(f"there is a table {table!r} already; rename or drop that one first")
    if column is not None and column in [one["name"] for one in inspect(connection).get_columns(table, schema)]:
        raise _wrong(f"table {table!r} has a column {column!r} already; rename or drop that one first")


def check_indexes(
    place: Place, table: str, indexed: Mapping[str, Sequence[str]], schema: str | None, *, old_name: str | None = None
) -> None:
    """See that columns have indexes on members.

    :param indexed: the members of each column.
    :param old_name: the name that the table had when they were made, if it is another.
    :raises ConfigurationError: if there is none on one of them.
    """
    from granite_storage.orm.member_index import member_index_name

    connection = place.connection
    if connection is None or not any(indexed.values()):
        return
    names = _index_names(connection, table, schema)
    for column, member in ((column, member) for column, members in indexed.items() for member in members):
        name = member_index_name(old_name or table, column, member)
        if name not in names:
            remedy = f"leave {member!r} out of indexes="
            if member == "location":
                remedy = "location_index=False, or for a table location_indexes=[...] with those that have one"
            raise _wrong(f"{table}.{column} has no {member} index {name!r}; say so: {remedy}")


def _index_names(connection: Connection, table: str, schema: str | None) -> set[str]:
    if connection.dialect.name != "sqlite":
        return {str(index["name"]) for index in inspect(connection).get_indexes(table, schema)}
    master = f"{connection.dialect.identifier_preparer.quote_identifier(schema)}." if schema else ""
    # SQLAlchemy does not reflect indexes on expressions there
    found = text(f"SELECT name FROM {master}sqlite_master WHERE type = 'index' AND lower(tbl_name) = lower(:table)")
    return set(connection.scalars(found, {"table": table}))


def _wrong(message: str) -> Exception:
    from granite_storage.exceptions import ConfigurationError

    return ConfigurationError(message)
