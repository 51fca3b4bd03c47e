"""Making and dropping triggers: with the tables, by DDL events, and by hand for tables that are there already."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event, inspect

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.registry import note_field, registry_of
from granite_storage.orm.triggers.declared import (
    answers,
    definitions_for,
    has_trigger,
    outbox_schema_of,
    trigger_columns,
    trigger_of,
)
from granite_storage.orm.triggers.definition import TRIGGER_VERSION
from granite_storage.orm.triggers.standing import forget_standing
from granite_storage.orm.triggers.statement import statement

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection

__all__ = ["add_triggers", "create_triggers", "drop_triggers"]

_log = logging.getLogger("granite_storage")


def add_triggers(table: Table, column: Column[Any]) -> None:
    """Let a table's triggers be made and dropped with it, if a file column of it is declared with triggers.

    :raises ConfigurationError: if its MetaData has no outbox that they could write.
    """
    if not has_trigger(column):
        return
    outbox = outbox_of(table.metadata)
    if outbox is None:
        raise ConfigurationError(
            f"file field {table.fullname}.{column.name}: triggers write the outbox, and the MetaData is to have none; "
            "use FileColumn(..., trigger=False), or leave out metadata_options(outbox=None)"
        )
    table.add_is_dependent_on(outbox)
    if not event.contains(table, "after_create", _table_created):
        event.listen(table, "after_create", _table_created)
        event.listen(table, "before_drop", _before_table_drop)
    if not event.contains(outbox, "before_drop", _before_outbox_drop):
        event.listen(outbox, "before_drop", _before_outbox_drop)


def create_triggers(connection: Connection, of: Table | MetaData) -> None:
    """Make the triggers of a table, or of all tables of a MetaData, that is in the database already; or make them anew.

    Tables that are created get theirs with them. Not committed, where the database has transactions for DDL::

        with engine.begin() as connection:
            create_triggers(connection, Document.__table__)

    :raises ConfigurationError: if the outbox is missing in the database, without which every DELETE would fail; on
        SQLite, if the outbox is in another database file than the table.
    """
    for table in _tables(of):
        for column in trigger_columns(table):
            if not _has_outbox(connection, table):
                raise ConfigurationError(f"{_no_outbox(table)}; make it first: metadata.create_all(engine)")
            _create(connection, column)


def drop_triggers(connection: Connection, of: Table | MetaData) -> None:
    """Drop the triggers of a table, or of all tables of a MetaData; those that are not there are no mistake."""
    for table in _tables(of):
        for column in trigger_columns(table):
            _drop(connection, column)


def _table_created(target: Table, connection: Connection, **_: Any) -> None:
    columns = list(trigger_columns(target))
    if columns and not _has_outbox(connection, target):
        _log.warning(
            "%s; table %s gets no triggers, since they would make its DELETEs fail: create the outbox first, with "
            "metadata.create_all(engine), then call granite_storage.orm.triggers.create_triggers(connection, table)",
            _no_outbox(target),
            target.fullname,
        )
        return
    for column in columns:
        _create(connection, column)


def _before_table_drop(target: Table, connection: Connection, **_: Any) -> None:
    """The triggers go with the table; what is known of them has to go, too."""
    forget_standing(connection)


def _before_outbox_drop(target: Table, connection: Connection, **_: Any) -> None:
    """Triggers without their outbox would make the statements fail that fire them."""
    definitions = definitions_for(connection.dialect.name)
    if definitions is None:
        return
    for table in target.metadata.tables.values():
        for column in trigger_columns(table):
            if _is_there(connection, table):
                _drop(connection, column)
    schema = outbox_schema_of(connection, target)
    _run(connection, definitions.drop_function(connection.dialect, target.name, schema))


def _create(connection: Connection, column: Column[Any]) -> None:
    definitions = definitions_for(connection.dialect.name)
    if definitions is not None:
        trigger = trigger_of(connection, column)
        _drop(connection, column)
        _run(connection, definitions.create(connection.dialect, trigger))
        _note(connection, column, TRIGGER_VERSION)


def _drop(connection: Connection, column: Column[Any]) -> None:
    definitions = definitions_for(connection.dialect.name)
    if definitions is not None:
        _run(connection, definitions.drop(connection.dialect, trigger_of(connection, column)))
        _note(connection, column, None)
        forget_standing(connection)


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for sql in statements:
        connection.execute(statement(sql))


def _note(connection: Connection, column: Column[Any], version: int | None) -> None:
    registry = registry_of(column.table.metadata)
    if registry is not None and answers(connection) and _is_there(connection, registry):
        schema = connection.schema_for_object(column.table)
        policy = getattr(column.type, "policy", None)
        note_field(connection, registry, (schema, column.table.name, column.name), policy, version)


def _has_outbox(connection: Connection, table: Table) -> bool:
    outbox = outbox_of(table.metadata)
    return outbox is not None and _is_there(connection, outbox)


def _is_there(connection: Connection, table: Table) -> bool:
    if not answers(connection):
        return True
    return inspect(connection).has_table(table.name, connection.schema_for_object(table))


def _no_outbox(table: Table) -> str:
    outbox = outbox_of(table.metadata)
    name = None if outbox is None else outbox.fullname
    return f"table {name!r}, the outbox that the triggers of {table.fullname} write, is missing in the database"


def _tables(of: Table | MetaData) -> Iterable[Table]:
    return of.sorted_tables if isinstance(of, MetaData) else (of,)
