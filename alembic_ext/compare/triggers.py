"""Triggers that are to come or go, and those that were lost: by hand, by a batch, by a new version of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic_ext.compare.standing import stands
from alembic_ext.operations import CreateFileTriggersOp, DropFileTriggersOp, RenameFileColumnOp
from alembic_ext.operations.column_types import AlterFileTypeOp
from granite_storage.orm.triggers import TRIGGER_VERSION, definitions_for, has_trigger

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(change: TableChange) -> None:
    """Make and drop triggers: before a column goes, after it is there."""
    dialect = change.context.dialect
    assert dialect is not None
    if definitions_for(dialect.name) is None:
        return
    noted, dropped, stored = change.noted(), change.dropped_columns(), change.stored_fields()
    wanted = [column.name for column in change.declared_fields() if has_trigger(column) and change.storage.frees]
    for column in [one for one in stored if one not in change.renamed]:
        has, version = stands(change, column), noted[column].trigger_version if column in noted else None
        if column in wanted and column not in dropped:
            _stored(change, column, has, version)
        elif (has or version is not None) and (column in dropped or change.compares_column(column)):
            change.before.insert(0, _drop(change, column))
    brought = {op.new_name for op in change.before if isinstance(op, RenameFileColumnOp) and op.triggers}
    for column in wanted:
        if column not in stored and column not in brought:
            change.after.append(_create(change, column))


def _stored(change: TableChange, column: str, has: bool, version: int | None) -> None:
    """A column that stays, and is to have triggers."""
    if has and change.storage.before is not change.storage:  # they write to an outbox that goes
        change.before.insert(0, _drop(change, column))
        change.after.append(_create(change, column))
    elif has and version == TRIGGER_VERSION:
        _keep(change, column)
    elif not has and version is None:
        change.after.append(_create(change, column))
    else:
        why = "The triggers were lost: made anew." if not has else f"Made anew, as version {TRIGGER_VERSION} has them."
        change.after.append(_create(change, column, why=why, kept=True))


def _keep(change: TableChange, column: str) -> None:
    """Triggers that stand in the way of an operation, or are lost by it."""
    altered = (op for modification in change.modifications for op in modification.ops)
    if any(isinstance(op, AlterFileTypeOp) and op.column_name == column for op in altered):
        change.before.insert(0, _drop(change, column))
        change.after.append(_create(change, column))
        return
    why = "A batch makes the table anew, without its triggers."
    if change.is_rebuilt(back=True):
        change.before.insert(0, _create(change, column, why=why, kept=True, told=False))
    if change.is_rebuilt(back=False):
        change.after.append(_create(change, column, why=why, kept=True))


def _create(
    change: TableChange, column: str, *, why: str = "", kept: bool = False, told: bool = True
) -> CreateFileTriggersOp:
    names = change.storage.names(change.op_schema)
    return CreateFileTriggersOp(change.name, column, why=why, kept=kept, told=told, **names)


def _drop(change: TableChange, column: str) -> DropFileTriggersOp:
    return DropFileTriggersOp(change.name, column, **change.storage.before.names(change.op_schema))
