"""Indexes on members of refs in SQLite, which neither SQLAlchemy reflects nor Alembic compares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import Column, Index, MetaData, Table, literal_column
from sqlalchemy.schema import CreateIndex

from alembic_ext.compare.column_types import portable_type
from alembic_ext.compare.member_indexes import sqlite_indexes
from alembic_ext.operations import KeepIndexOp
from granite_storage.orm.location_index import location_index_name

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]

_INDEX_OPS = (ops.CreateIndexOp, ops.DropIndexOp)


def compare(change: TableChange) -> None:
    """Drop, create and keep the indexes, all outside of batch blocks: a batch does not see them."""
    stored = sqlite_indexes(change.context, change.name, change.schema) if change.exists else {}
    wanted = change.model_indexes
    ddl = {name: str(CreateIndex(index).compile(dialect=change.context.dialect)) for name, index in wanted.items()}
    kept = [name for name in wanted if name in stored and _normalized(stored[name]) == _normalized(ddl[name])]
    change.before += [
        ops.DropIndexOp.from_index(_stored_index(change, name, stored[name]))
        for name in sorted((_given_up(change, stored) | stored.keys() & wanted.keys()) - set(kept))
    ]
    change.after += [ops.CreateIndexOp.from_index(index) for name, index in wanted.items() if name not in kept]
    for name in kept:
        _keep(change, wanted[name])


def _given_up(change: TableChange, stored: dict[str, str]) -> set[str]:
    """The indexes that the models do not have any more, and those that would be lost with a column or table."""
    indexed = change.indexed_columns()
    lost = indexed if change.drop_table is not None else indexed & _dropped_columns(change)
    on_lost = {name for name, sql in stored.items() if any(_mentions(sql, column) for column in lost)}
    models = set() if change.model is None else {str(index.name) for index in change.model.indexes}
    return on_lost | {location_index_name(change.name, column) for column in indexed} - models


def _dropped_columns(change: TableChange) -> set[str]:
    dropped = (op for modification in change.modifications for op in modification.ops)
    return {str(op.column_name) for op in dropped if isinstance(op, ops.DropColumnOp)}


def _keep(change: TableChange, index: Index) -> None:
    """A batch makes the table anew, on the way up or on the way down, with the indexes it knows of."""
    if not change.context.opts.get("render_as_batch"):
        return
    batched = [op for modification in change.modifications for op in modification.ops]
    if any(not isinstance(op, (*_INDEX_OPS, ops.DropColumnOp)) for op in batched):
        change.before.append(KeepIndexOp.of(index, told=False))
    if any(not isinstance(op, (*_INDEX_OPS, ops.AddColumnOp)) for op in batched):
        change.after.append(KeepIndexOp.of(index, told=True))


def _mentions(sql: str, column: str) -> bool:
    return re.search(rf'json_extract\s*\(\s*["`\[]?{re.escape(column)}["`\]]?\s*,', sql, re.IGNORECASE) is not None


def _normalized(sql: str) -> str:
    """A statement without what makes no difference: spaces, case, quotes, the schema of the index."""
    text = re.sub(r'[\s"`\[\]]', "", sql.replace("IF NOT EXISTS", "")).lower()
    return re.sub(r"index[^(]*?on", "indexon", text, count=1)


def _stored_index(change: TableChange, name: str, sql: str) -> Index:
    """An index as a stored statement has it, so that the way back makes the same."""
    expressions = sql[sql.index("(") + 1 : sql.rindex(")")]
    columns: list[Column[Any]] = [Column(column, portable_type()) for column in change.database_columns()]
    table = Table(change.name, MetaData(), *columns, schema=change.schema)
    unique = re.match(r"\s*CREATE\s+UNIQUE", sql, re.IGNORECASE) is not None
    return Index(name, literal_column(expressions), unique=unique, _table=table)
