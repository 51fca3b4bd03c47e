"""The triggers on SQLite.

What they cannot see: ``INSERT OR REPLACE`` (and ``REPLACE``) deletes the row that is in its way, and SQLite fires
delete triggers for that only with ``PRAGMA recursive_triggers = ON``, to be set on each connection. A batch migration
(a table made anew and renamed) loses the triggers silently, and DROP COLUMN fails while one stands: migrations drop
the triggers first and create them afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from granite_storage.orm.triggers.definition import FileTrigger, literal, quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["create", "drop", "drop_function", "free", "standing"]


def create(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statements that make the triggers. The outbox has to be in the table's schema, that is, database file."""
    old, new = f"OLD.{quoted(dialect, trigger.column)}", f"NEW.{quoted(dialect, trigger.column)}"
    # a value that is no JSON must not reach a JSON function: it would make the user's statement fail
    differs = (
        f"CASE WHEN json_valid({new}) THEN json_extract({old}, '$.location') IS NOT json_extract({new}, '$.location') "
        f"OR json_extract({old}, '$.backend') IS NOT json_extract({new}, '$.backend') ELSE 1 END"
    )
    write = f"BEGIN {_write(dialect, trigger, old)}; END"
    table = quoted(dialect, trigger.table)
    on_delete, on_update = (quoted(dialect, trigger.schema, one) for one in (trigger.delete_name, trigger.update_name))
    return [
        f"CREATE TRIGGER {on_delete} AFTER DELETE ON {table} WHEN {_is_ref(old)} {write}",
        f"CREATE TRIGGER {on_update} AFTER UPDATE ON {table} WHEN {_is_ref(old)} AND {differs} {write}",
    ]


def free(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statement that writes down what all rows of the table hold, before the column goes."""
    table, column = quoted(dialect, trigger.schema, trigger.table), quoted(dialect, trigger.column)
    return [f"{_write(dialect, trigger, column, trigger.outbox_schema)} FROM {table} WHERE {_is_ref(column)}"]


def drop(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statements that drop the triggers, if they are there."""
    names = (trigger.delete_name, trigger.update_name)
    return [f"DROP TRIGGER IF EXISTS {quoted(dialect, trigger.schema, name)}" for name in names]


def drop_function(dialect: Dialect, outbox: str, schema: str | None) -> list[str]:
    """Nothing: there are no functions."""
    return []


def standing(connection: Connection, trigger: FileTrigger) -> bool:
    """Whether the database has the triggers."""
    catalog = quoted(connection.dialect, trigger.schema, "sqlite_master")
    found = text(
        f"SELECT count(*) FROM {catalog} WHERE type = 'trigger' AND lower(tbl_name) = lower(:of) "
        "AND name IN (:deleted, :updated)"
    )
    names = {"of": trigger.table, "deleted": trigger.delete_name, "updated": trigger.update_name}
    return bool(connection.scalar(found, names) == 2)


def _write(dialect: Dialect, trigger: FileTrigger, value: str, schema: str | None = None) -> str:
    """The INSERT into the outbox; without a schema, as a trigger has it, whose names are of its own database file."""
    return (
        f"INSERT INTO {quoted(dialect, schema, trigger.outbox)} (backend, location, storage_key, size, source) SELECT "
        f"json_extract({value}, '$.backend'), json_extract({value}, '$.location'), CASE WHEN "
        f"json_type({value}, '$.storage_key') = 'text' THEN json_extract({value}, '$.storage_key') ELSE '' END, "
        f"CASE WHEN typeof(json_extract({value}, '$.size')) = 'integer' AND json_extract({value}, '$.size') >= 0 "
        f"THEN json_extract({value}, '$.size') END, {literal(trigger.written_source)}"
    )


def _is_ref(value: str) -> str:
    """Whether a value names an object, as the other databases tell it."""
    location, backend = (f"json_extract({value}, '$.{member}')" for member in ("location", "backend"))
    return (
        f"CASE WHEN json_valid({value}) THEN json_type({value}, '$.location') = 'text' "
        f"AND json_type({value}, '$.backend') = 'text' AND length(CAST({location} AS BLOB)) BETWEEN 1 AND 1024 "
        f"AND length({backend}) BETWEEN 1 AND 255 ELSE 0 END"
    )
