"""On MariaDB and MySQL an invisible generated column holds a file column's locations, and has the index."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Column, Index, MetaData, String, Table

from alembic_ext.compare.member_indexes import index_names, member_indexes
from alembic_ext.operations import AddLocationColumnOp, DropLocationColumnOp
from granite_storage.orm.location_index import INDEX_KEY, generated_column_name, location_index_name

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]

log = logging.getLogger(__name__)


def compare(change: TableChange) -> None:
    """Add and drop generated columns with their indexes; what Alembic made of them is taken out."""
    existing = change.database_columns()
    generated = [column for column in existing if generated_column_name(column) in existing]
    wanted = _wanted(change)
    _forget(change, set(generated))
    _add_missing_indexes(change, [column for column in wanted if column in generated])
    dialect = change.context.dialect
    assert dialect is not None
    change.before += [
        DropLocationColumnOp(dialect, change.name, column, change.schema)
        for column in sorted(generated, key=lambda column: existing.index(generated_column_name(column)), reverse=True)
        if column not in wanted
    ]
    change.after += [
        AddLocationColumnOp(dialect, change.name, column, change.schema) for column in wanted if column not in generated
    ]


def _wanted(change: TableChange) -> list[str]:
    """The columns whose locations are to be indexed, in the models' order."""
    if change.drop_table is not None:
        return []
    columns = {str(index.info[INDEX_KEY]) for index in change.model_indexes.values() if INDEX_KEY in index.info}
    return [column.name for column in change.model_columns if column.name in columns]


def _forget(change: TableChange, generated: set[str]) -> None:
    file_columns = generated | {column.name for column in change.model_columns}
    ours = {location_index_name(change.name, column) for column in file_columns}
    on_members = set() if change.model is None else {str(index.name) for index in member_indexes(change.model)}
    column_names = {generated_column_name(column) for column in generated}
    unwanted: list[ops.MigrateOperation] = []
    for op in (op for modification in change.modifications for op in modification.ops):
        if isinstance(op, ops.DropColumnOp) and op.column_name in column_names:
            unwanted.append(op)
        elif isinstance(op, (ops.CreateIndexOp, ops.DropIndexOp)) and str(op.index_name) in ours | on_members:
            unwanted.append(op)
            if isinstance(op, ops.CreateIndexOp) and str(op.index_name) not in ours:
                log.warning(
                    "Left out index %r on %r: this database indexes no expressions; index a generated column instead",
                    str(op.index_name),
                    change.name,
                )
    change.remove(unwanted)
    if change.drop_table is not None and change.drop_table._reverse is not None:
        reverse = change.drop_table._reverse
        reverse.columns = [
            item
            for item in reverse.columns
            if not (isinstance(item, Column) and item.name in column_names) and not _checks_json(item, generated)
        ]


def _checks_json(item: object, generated: set[str]) -> bool:
    """Whether it is the CHECK that MariaDB's JSON type brings along."""
    return isinstance(item, CheckConstraint) and item.name in generated and "json_valid" in str(item.sqltext)


def _add_missing_indexes(change: TableChange, columns: list[str]) -> None:
    """Make an index anew that was dropped by hand while its column stayed."""
    if not columns:
        return
    assert change.context.dialect is not None
    present = index_names(change.context, change.name, change.schema)
    for column in columns:
        name = location_index_name(change.name, column)
        if name not in present:
            generated: Column[str] = Column(generated_column_name(column), String(1024))
            table = Table(change.name, MetaData(), generated, schema=change.schema)
            length: Any = {f"{change.context.dialect.name}_length": {generated.name: 255}}
            change.after.append(ops.CreateIndexOp.from_index(Index(name, generated, **length, _table=table)))
