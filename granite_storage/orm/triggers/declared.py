"""Which file columns are declared with triggers, and what those are in one database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.options import options_of
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.triggers import mysql, postgresql, sqlite
from granite_storage.orm.triggers.definition import FileTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column, Connection, Table
    from sqlalchemy.engine.interfaces import Dialect

__all__ = [
    "Definitions",
    "answers",
    "definitions_for",
    "has_trigger",
    "located",
    "outbox_schema_of",
    "searched_schema",
    "trigger_columns",
    "trigger_of",
]


class Definitions(Protocol):
    """What a dialect's module knows; all but the last are texts of SQL, which need no database."""

    def create(self, dialect: Dialect, trigger: FileTrigger) -> list[str]:
        """The statements that make the triggers."""
        ...

    def free(self, dialect: Dialect, trigger: FileTrigger) -> list[str]:
        """The statement that writes down what all rows of the table hold, before the column goes."""
        ...

    def drop(self, dialect: Dialect, trigger: FileTrigger) -> list[str]:
        """The statements that drop the triggers, if they are there."""
        ...

    def drop_function(self, dialect: Dialect, outbox: str, schema: str | None) -> list[str]:
        """The statements that drop what the triggers of an outbox share."""
        ...

    def standing(self, connection: Connection, trigger: FileTrigger) -> bool:
        """Whether the database has the triggers."""
        ...


_DIALECTS: dict[str, Definitions] = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mysql, "mariadb": mysql}


def has_trigger(column: Column[Any]) -> bool:
    """Whether a column is a file column declared with triggers, by itself or by its MetaData; asks no database."""
    if getattr(column.type, "policy", None) is None:  # no file column, or one of plain refs
        return False
    trigger: bool | None = getattr(column.type, "trigger", None)
    return options_of(column.table.metadata).triggers if trigger is None else trigger


def trigger_columns(table: Table) -> Iterator[Column[Any]]:
    """The columns of a table that are declared with triggers."""
    return (column for column in table.columns if has_trigger(column))


def definitions_for(dialect: str) -> Definitions | None:
    """The module of a dialect.

    :returns: None for a database that no triggers are written for.
    """
    return _DIALECTS.get(dialect)


def trigger_of(connection: Connection, column: Column[Any]) -> FileTrigger:
    """The triggers of a column as the database of a connection has them, under its schema translate map.

    :raises ConfigurationError: on SQLite, if the outbox is in another database file than the table.
    """
    table, outbox = column.table, outbox_of(column.table.metadata)
    assert outbox is not None  # a column with triggers is refused without one
    schema, outbox_schema = connection.schema_for_object(table), outbox_schema_of(connection, outbox)
    source = f"{table.fullname}.{column.name}"  # as the ORM writes it, whatever the schema translate map says
    return located(connection.dialect, FileTrigger(table.name, column.name, outbox.name, schema, outbox_schema, source))


def located(dialect: Dialect, trigger: FileTrigger) -> FileTrigger:
    """A trigger whose outbox is told where it is, if its table is in a schema: or it would look there.

    :raises ConfigurationError: on SQLite, if the outbox is in another database file than the table.
    """
    schema, outbox_schema = trigger.schema, trigger.outbox_schema
    if dialect.name == "sqlite" and (schema or "main") != (outbox_schema or "main"):
        raise ConfigurationError(
            f"file field {trigger.source}: a trigger of SQLite cannot write to another database file, "
            f"and the outbox is in {outbox_schema or 'main'!r}; put both in one schema, or use FileColumn(..., "
            "trigger=False)"
        )
    if outbox_schema is None and schema is not None:
        return replace(trigger, outbox_schema=dialect.default_schema_name)
    return trigger


def outbox_schema_of(connection: Connection, outbox: Table) -> str | None:
    """The schema of an outbox; named on PostgreSQL in any case, since the function has no search_path to find it by."""
    return searched_schema(connection, outbox.name, connection.schema_for_object(outbox))


def searched_schema(connection: Connection, table: str, schema: str | None) -> str | None:
    """A table's schema; where it is None, on PostgreSQL the one in which the table is found or would be made."""
    if schema is None and connection.dialect.name == "postgresql" and answers(connection):
        return postgresql.schema_of(connection, table)
    return schema


def answers(connection: Connection) -> bool:
    """Whether it is a connection to a database, which answers, and not what prints the statements it gets."""
    return hasattr(connection, "in_transaction")
