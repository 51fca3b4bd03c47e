"""The registry's rows come and go with the tables that have file fields, by DDL events.

Migrations write the same rows with operations of their own (``alembic_ext``); what compares a database with the models
reads them. A script for several databases (a mock engine's) holds none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event, inspect

from granite_storage.orm.registry import add_registry, forget_table, note_field, registry_of
from granite_storage.orm.triggers.declared import answers

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

__all__ = ["add_registration"]


def add_registration(table: Table) -> None:
    """Let a table's file fields be noted in the registry of its MetaData when it is made, and forgotten with it."""
    table.add_is_dependent_on(add_registry(table.metadata))
    if not event.contains(table, "after_create", _table_created):
        event.listen(table, "after_create", _table_created)
        event.listen(table, "before_drop", _before_table_drop)


def _table_created(target: Table, connection: Connection, **_: Any) -> None:
    registry = _registry(connection, target)
    if registry is not None:
        schema = connection.schema_for_object(target)
        for column in target.columns:
            policy = getattr(column.type, "policy", None)
            if policy is not None:
                note_field(connection, registry, (schema, target.name, column.name), policy, None)


def _before_table_drop(target: Table, connection: Connection, **_: Any) -> None:
    registry = _registry(connection, target)
    if registry is not None:
        forget_table(connection, registry, connection.schema_for_object(target), target.name)


def _registry(connection: Connection, table: Table) -> Table | None:
    """The registry that a database has for a table; None if it is missing, as when a table is made alone."""
    registry = registry_of(table.metadata)
    if registry is None or not answers(connection):
        return None
    there = inspect(connection).has_table(registry.name, connection.schema_for_object(registry))
    return registry if there else None
