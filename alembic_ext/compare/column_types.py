"""File columns in a script have the portable type, which needs neither this package nor the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import JSON, Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from alembic_ext.operations.column_types import AlterFileTypeOp
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["make_portable", "portable_type"]


def portable_type() -> TypeEngine[Any]:
    """The type of a file column in a script: JSON, JSONB on PostgreSQL."""
    jsonb = JSONB()
    # SQLAlchemy's repr names it, and on other databases Alembic would write that `Text()` without importing it.
    jsonb.astext_type = None  # type: ignore[assignment]
    return JSON().with_variant(jsonb, "postgresql")


def make_portable(change: TableChange) -> None:
    """Give the file columns in the operations on a table the portable type; the models keep theirs."""
    declared = {column.name for column in change.model_columns}
    names = declared | set(change.stored_fields())
    dropped = change.drop_table
    for create in (change.create_table, dropped._reverse if dropped is not None else None):
        if create is not None:
            create.columns = [_portable(item, names) for item in create.columns]
    for modification in change.modifications:
        modification.ops[:] = [_portable_op(change, op, declared, names) for op in modification.ops]


def _portable_op(change: TableChange, op: Any, declared: set[str], names: set[str]) -> Any:
    if isinstance(op, ops.AddColumnOp):
        op.column = _portable(op.column, names)
    elif isinstance(op, ops.DropColumnOp) and op._reverse is not None:
        op._reverse.column = _portable(op._reverse.column, names)
    elif isinstance(op, ops.AlterColumnOp) and op.column_name in names:
        if op.modify_type is not None:
            return AlterFileTypeOp.of(op, portable_type() if op.column_name in declared else op.modify_type)
        op.existing_type = portable_type()
    return op


def _portable(item: Any, names: set[str]) -> Any:
    if not isinstance(item, Column) or (item.name not in names and not isinstance(item.type, StoredObjectRefType)):
        return item
    column: Column[Any] = item._copy()
    column.type = portable_type()
    return column
