"""File columns with all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import Operations

from alembic_ext.operations.columns import AddFileColumnOp, DropFileColumnOp, RenameFileColumnOp
from alembic_ext.toimpl import fields, indexes, triggers
from alembic_ext.toimpl.checks import check_columns, check_indexes, check_unused
from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from alembic_ext.operations.base import FileFieldOp

__all__ = ["settle"]


@Operations.implementation_for(AddFileColumnOp)
def _add(operations: Operations, op: AddFileColumnOp) -> None:
    place, name = Place(operations), str(op.column.name)
    operations.add_column(op.table_name, op.column, schema=op.schema)
    indexes.create(place, op.table_name, name, op.indexed, op.schema)
    settle(place, op, op.table_name, name, op.policy, op.triggers)


@Operations.implementation_for(DropFileColumnOp)
def _drop(operations: Operations, op: DropFileColumnOp) -> None:
    place = Place(operations)
    check_columns(place, op.table_name, [op.column_name], op.schema)
    check_indexes(place, op.table_name, {op.column_name: op.indexed}, op.schema)
    triggers.drop(place, op, op.table_name, op.column_name)
    if op.objects == "free":
        fields.free(place, op, op.table_name, op.column_name)
    fields.forget(place, op, op.table_name, op.column_name)
    indexes.drop(place, op.table_name, op.column_name, op.indexed, op.schema)
    operations.drop_column(op.table_name, op.column_name, schema=op.schema)


@Operations.implementation_for(RenameFileColumnOp)
def _rename(operations: Operations, op: RenameFileColumnOp) -> None:
    from granite_storage.orm.triggers.definition import quoted

    place = Place(operations)
    check_columns(place, op.table_name, [op.old_name], op.schema)
    check_unused(place, op.table_name, op.new_name, op.schema)
    check_indexes(place, op.table_name, {op.old_name: op.indexed}, op.schema)
    triggers.drop(place, op, op.table_name, op.old_name)
    indexes.drop(place, op.table_name, op.old_name, op.indexed, op.schema)
    table = quoted(place.dialect, op.schema, op.table_name)
    old, new = quoted(place.dialect, op.old_name), quoted(place.dialect, op.new_name)
    place.run(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    indexes.create(place, op.table_name, op.new_name, op.indexed, op.schema)
    fields.forget(place, op, op.table_name, op.old_name)
    settle(place, op, op.table_name, op.new_name, op.policy, op.triggers)


def settle(place: Place, op: FileFieldOp, table_name: str, column_name: str, policy: str, with_triggers: bool) -> None:
    """Make the triggers of a column that has its place, if it is to have some, and note it."""
    version = triggers.create(place, op, table_name, column_name) if with_triggers else None
    fields.note(place, op, table_name, column_name, policy, version)
