"""The triggers on PostgreSQL: three a file column, and one function for all of an outbox.

The function is SECURITY DEFINER, so that whoever may change a row need not be able to write the outbox; its
search_path is fixed, and nobody but its owner may make triggers that call it. The triggers hand it the column's name.
After RENAME COLUMN that name is the old one; the function then writes nothing and warns, instead of making every DELETE
fail. The column's type cannot change, nor the column be dropped, while its triggers stand: migrations drop them first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from granite_storage.orm.triggers.definition import FileTrigger, literal, quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["create", "drop", "drop_function", "free", "schema_of", "standing"]

# The one column is taken by dynamic SQL, not by to_jsonb(OLD): that would fail for a row whose other columns hold JSON
# that JSONB does not take. The operators are those that JSON and JSONB share. The planner computes what it can before
# any WHERE, so that nothing may fail for a value that is no ref.
_FUNCTION = """\
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $granite_storage$
DECLARE
  write CONSTANT text := {write};
  accepted CONSTANT text := {accepted};
  file_column CONSTANT name := TG_ARGV[0];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = TG_RELID AND attname = file_column AND NOT attisdropped) THEN
    RAISE WARNING USING MESSAGE = 'granite-storage: ' || TG_RELID::regclass || ' has no file column '
      || quote_ident(file_column) || ' any more; what its rows free is not written to the outbox',
      HINT = 'Create the triggers of the table again.';
  ELSIF TG_OP = 'TRUNCATE' THEN
    EXECUTE write || quote_ident(file_column) || ' AS ref FROM ' || TG_RELID::regclass || accepted USING TG_ARGV[1];
  ELSE
    EXECUTE write || '($2).' || quote_ident(file_column) || ' AS ref' || accepted USING TG_ARGV[1], OLD;
  END IF;
  RETURN NULL;
END
$granite_storage$"""
_WRITE = """\
INSERT INTO {outbox} (backend, location, storage_key, size, source)
SELECT left(ref ->> 'backend', 255), left(ref ->> 'location', 1024), coalesce(left(ref ->> 'storage_key', 255), ''),
CASE WHEN ref ->> 'size' ~ '^[0-9]{{1,18}}$' THEN CAST(ref ->> 'size' AS bigint) END, $1 FROM (SELECT """
_ACCEPTED = """\
) AS freed WHERE left(CAST(ref -> 'location' AS text), 1) = '"' AND left(CAST(ref -> 'backend' AS text), 1) = '"'
AND octet_length(ref ->> 'location') BETWEEN 1 AND 1024 AND length(ref ->> 'backend') BETWEEN 1 AND 255"""


def create(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statements that make the function, unless it is there, and the triggers."""
    table = quoted(dialect, trigger.schema, trigger.table)
    function = _function(dialect, trigger.outbox, trigger.outbox_schema)
    outbox = _outbox(dialect, trigger)
    column = quoted(dialect, trigger.column)
    arguments = f"{literal(trigger.column)}, {literal(trigger.written_source)}"
    differs = " OR ".join(
        f"(OLD.{column} ->> '{member}') IS DISTINCT FROM (NEW.{column} ->> '{member}')"
        for member in ("location", "backend")
    )
    held = f"(OLD.{column} ->> 'location') IS NOT NULL"
    call = f"EXECUTE FUNCTION {function}({arguments})"
    names = (trigger.delete_name, trigger.update_name, trigger.truncate_name)
    on_delete, on_update, on_truncate = (quoted(dialect, name) for name in names)
    return [
        _FUNCTION.format(function=function, write=literal(_WRITE.format(outbox=outbox)), accepted=literal(_ACCEPTED)),
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        f"CREATE TRIGGER {on_delete} AFTER DELETE ON {table} FOR EACH ROW WHEN ({held}) {call}",
        f"CREATE TRIGGER {on_update} AFTER UPDATE ON {table} FOR EACH ROW WHEN ({held} AND ({differs})) {call}",
        f"CREATE TRIGGER {on_truncate} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}",
    ]


def free(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statement that writes down what all rows of the table hold, before the column goes."""
    table, column = quoted(dialect, trigger.schema, trigger.table), quoted(dialect, trigger.column)
    write = _WRITE.format(outbox=_outbox(dialect, trigger)).replace("$1", literal(trigger.written_source))
    return [f"{write}{column} AS ref FROM {table}{_ACCEPTED}"]


def drop(dialect: Dialect, trigger: FileTrigger) -> list[str]:
    """The statements that drop the triggers, if they are there; the function stays, for other tables use it."""
    table = quoted(dialect, trigger.schema, trigger.table)
    names = (trigger.delete_name, trigger.update_name, trigger.truncate_name)
    return [f"DROP TRIGGER IF EXISTS {quoted(dialect, name)} ON {table}" for name in names]


def drop_function(dialect: Dialect, outbox: str, schema: str | None) -> list[str]:
    """The statements that drop the function of an outbox, if it is there, and all triggers that call it."""
    return [f"DROP FUNCTION IF EXISTS {_function(dialect, outbox, schema)}() CASCADE"]


def standing(connection: Connection, trigger: FileTrigger) -> bool:
    """Whether the database has the triggers, enabled."""
    found = text(
        "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = to_regclass(:of) AND tgenabled <> 'D' "
        "AND tgname IN (:deleted, :updated, :truncated)"
    )
    names = {"deleted": trigger.delete_name, "updated": trigger.update_name, "truncated": trigger.truncate_name}
    of = quoted(connection.dialect, trigger.schema, trigger.table)
    return bool(connection.scalar(found, {"of": of, **names}) == 3)


def schema_of(connection: Connection, table: str) -> str:
    """The schema in which the connection's search_path finds a table, or would make it."""
    found = text(
        "SELECT coalesce((SELECT nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
        "ON n.oid = c.relnamespace WHERE c.oid = to_regclass(:name)), current_schema(), 'public')"
    )
    return str(connection.scalar(found, {"name": quoted(connection.dialect, table)}))


def _outbox(dialect: Dialect, trigger: FileTrigger) -> str:
    return quoted(dialect, trigger.outbox_schema or "public", trigger.outbox)


def _function(dialect: Dialect, outbox: str, schema: str | None) -> str:
    return quoted(dialect, schema or "public", FileTrigger("", "", outbox).function_name)
