"""Triggers of a file column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import Operations

from alembic_ext.operations.triggers import CreateFileTriggersOp, DropFileTriggersOp
from alembic_ext.toimpl.checks import check_columns
from alembic_ext.toimpl.fields import set_trigger_version
from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from alembic_ext.operations.base import FileFieldOp
    from granite_storage.orm.triggers import FileTrigger

__all__ = ["create", "drop", "trigger_in"]


def trigger_in(place: Place, op: FileFieldOp, table_name: str, column_name: str) -> FileTrigger:
    """The triggers of a column as this database has them.

    :raises ConfigurationError: if they have no outbox to write, or on SQLite one in another database file.
    """
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.orm.triggers import FileTrigger
    from granite_storage.orm.triggers.declared import located, searched_schema

    if op.outbox is None:
        raise ConfigurationError(f"{table_name}.{column_name}: triggers write the outbox, and it is None here")
    connection, outbox_schema = place.connection, op.storage_schema
    if connection is not None:
        outbox_schema = searched_schema(connection, op.outbox, outbox_schema)
    source = ".".join(name for name in (op.schema, table_name, column_name) if name)
    trigger = FileTrigger(table_name, column_name, op.outbox, op.schema, outbox_schema, source)
    return located(place.dialect, trigger)


def create(place: Place, op: FileFieldOp, table_name: str, column_name: str) -> int | None:
    """Make the triggers, or make them anew.

    :returns: their version; None on a database that no triggers are written for.
    :raises ConfigurationError: if their outbox is missing, without which every DELETE would fail.
    """
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.orm.triggers import TRIGGER_VERSION, definitions_for

    definitions = definitions_for(place.dialect.name)
    if definitions is None:
        return None
    trigger = trigger_in(place, op, table_name, column_name)
    if place.has_table(trigger.outbox, op.storage_schema) is False:
        raise ConfigurationError(
            f"{table_name}.{column_name}: the outbox {trigger.outbox!r}, which its triggers write, is missing; make it "
            "first with op.create_storage_outbox()"
        )
    drop(place, op, table_name, column_name)
    place.run(*definitions.create(place.dialect, trigger))
    return TRIGGER_VERSION


def drop(place: Place, op: FileFieldOp, table_name: str, column_name: str) -> None:
    """Drop the triggers, if they are there."""
    from granite_storage.orm.triggers import FileTrigger, definitions_for
    from granite_storage.orm.triggers.standing import forget_standing

    definitions = definitions_for(place.dialect.name)
    if definitions is not None:
        trigger = FileTrigger(table_name, column_name, op.outbox or "", op.schema)
        place.run(*definitions.drop(place.dialect, trigger))
        if place.connection is not None:
            forget_standing(place.connection)


@Operations.implementation_for(CreateFileTriggersOp)
def _create(operations: Operations, op: CreateFileTriggersOp) -> None:
    place = Place(operations)
    check_columns(place, op.table_name, [op.column_name], op.schema)  # SQLite would make them, and DELETEs would fail
    version = create(place, op, op.table_name, op.column_name)
    set_trigger_version(place, op, op.table_name, op.column_name, version)


@Operations.implementation_for(DropFileTriggersOp)
def _drop(operations: Operations, op: DropFileTriggersOp) -> None:
    place = Place(operations)
    drop(place, op, op.table_name, op.column_name)
    set_trigger_version(place, op, op.table_name, op.column_name, None)
