"""The triggers on MariaDB and MySQL; each body is one statement, so that a migration script needs no DELIMITER.

What they cannot see: MariaDB and MySQL fire no triggers for ``ON DELETE CASCADE`` and ``ON DELETE SET NULL``, nor for
TRUNCATE. Deletes by the ORM are safe where it loads the children (``passive_deletes=False``, the default); what goes by
a cascade of the database's own, or by TRUNCATE, is found by a full gc only. RENAME COLUMN and DROP COLUMN succeed, and
then every UPDATE and DELETE of the table fails (1054): migrations drop the triggers first.
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
    """The statements that make the triggers."""
    old, new = f"OLD.{quoted(dialect, trigger.column)}", f"NEW.{quoted(dialect, trigger.column)}"
    # byte by byte: a location that differs in case only is another object
    same = " AND ".join(
        f"CAST({_text(old, member)} AS BINARY) <=> CAST({_text(new, member)} AS BINARY)"
        for member in ("location", "backend")
    )
    # a value that is no JSON must not reach a JSON function: it would make the user's statement fail
    differs = f"CASE WHEN JSON_VALID({new}) THEN NOT ({same}) ELSE 1 END"
    write = _write(dialect, trigger, old, "DUAL")
    table = quoted(dialect, trigger.schema, trigger.table)
    on_delete, on_update = (quoted(dialect, trigger.schema, one) for one in (trigger.delete_name, trigger.update_name))
    return [
        f"CREATE TRIGGER {on_delete} AFTER DELETE ON {table} FOR EACH ROW {write}",
        f"CREATE TRIGGER {on_update} AFTER UPDATE ON {table} FOR EACH ROW {write} AND {differs}",
    ]


def free(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statement that writes down what all rows of the table hold, before the column goes."""
    table = quoted(dialect, trigger.schema, trigger.table)
    return [_write(dialect, trigger, quoted(dialect, trigger.column), table)]


def drop(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statements that drop the triggers, if they are there."""
    names = (trigger.delete_name, trigger.update_name)
    return [f"DROP TRIGGER IF EXISTS {quoted(dialect, trigger.schema, name)}" for name in names]


def drop_function(dialect: Dialect, outbox: str, schema: str | None) -> list[str]:
    """Nothing: there are no functions."""
    return []


def standing(connection: Connection, trigger: FileTrigger) -> bool:
    """Whether the database has the triggers, as far as it tells: it shows them to roles with the TRIGGER privilege."""
    found = text(
        "SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = coalesce(:schema, DATABASE()) "
        "AND event_object_table = :of AND trigger_name IN (:deleted, :updated)"
    )
    names = {"of": trigger.table, "deleted": trigger.delete_name, "updated": trigger.update_name}
    return bool(connection.scalar(found, {"schema": trigger.schema, **names}) == 2)


def _write(dialect: Dialect, trigger: FileTrigger, value: str, table: str) -> str:
    """The INSERT into the outbox."""
    size = _text(value, "size")
    return (
        f"INSERT INTO {quoted(dialect, trigger.outbox_schema, trigger.outbox)} "
        "(backend, location, storage_key, size, source) "
        f"SELECT {_text(value, 'backend')}, {_text(value, 'location')}, "
        f"IF({_kind(value, 'storage_key')} = 'STRING', LEFT({_text(value, 'storage_key')}, 255), ''), "
        f"IF({size} REGEXP '^[0-9]{{1,18}}$', CAST({size} AS SIGNED), NULL), "
        f"{literal(trigger.written_source)} FROM {table} WHERE {_is_ref(value)}"
    )


def _text(value: str, member: str) -> str:
    return f"JSON_UNQUOTE(JSON_EXTRACT({value}, '$.{member}'))"


def _kind(value: str, member: str) -> str:
    return f"JSON_TYPE(JSON_EXTRACT({value}, '$.{member}'))"


def _is_ref(value: str) -> str:
    """Whether a value names an object, and the outbox has room for it."""
    location, backend = _text(value, "location"), _text(value, "backend")
    return (
        f"CASE WHEN JSON_VALID({value}) THEN {_kind(value, 'location')} = 'STRING' "
        f"AND {_kind(value, 'backend')} = 'STRING' AND LENGTH({location}) BETWEEN 1 AND 1024 "
        f"AND CHAR_LENGTH({backend}) BETWEEN 1 AND 255 ELSE 0 END"
    )
