"""Tables with file columns that are renamed."""

from __future__ import annotations

from alembic.operations import Operations

from alembic_ext.operations.tables import RenameFileTableOp
from alembic_ext.toimpl import fields, indexes, triggers
from alembic_ext.toimpl.checks import check_columns, check_indexes, check_unused
from alembic_ext.toimpl.columns import settle
from alembic_ext.toimpl.place import Place


@Operations.implementation_for(RenameFileTableOp)
def _rename(operations: Operations, op: RenameFileTableOp) -> None:
    place = Place(operations)
    present = op.old_name if op.rename_table else op.present_name or op.new_name
    check_columns(place, present, list(op.columns), op.schema)
    check_indexes(place, present, op.indexed, op.schema, old_name=op.old_name)
    if op.rename_table:
        check_unused(place, op.new_name, None, op.schema)
    _named(operations, op, present, op.old_name)  # what belongs to the table is named and looked for by its name
    for column in op.columns:
        triggers.drop(place, op, op.old_name, column)
        fields.forget(place, op, op.old_name, column)
        indexes.drop(place, op.old_name, column, op.indexed[column], op.schema)
    _named(operations, op, op.old_name, op.new_name)
    for column, policy in op.columns.items():
        indexes.create(place, op.new_name, column, op.indexed[column], op.schema)
        settle(place, op, op.new_name, column, policy, column in op.triggers)
    _named(operations, op, op.new_name, op.new_name if op.rename_table else present)


def _named(operations: Operations, op: RenameFileTableOp, name: str, wanted: str) -> None:
    if name != wanted:
        operations.rename_table(name, wanted, schema=op.schema)
