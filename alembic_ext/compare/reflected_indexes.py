"""Indexes on members of refs in PostgreSQL, where SQLAlchemy reflects them, in PostgreSQL's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alembic.operations import ops
from sqlalchemy import Column
from sqlalchemy.schema import CreateIndex

from alembic_ext.operations.member_indexes import CreateMemberIndexOp, DropMemberIndexOp

if TYPE_CHECKING:
    from sqlalchemy import Index

    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]

_LITERAL = {"literal_binds": True}


def compare(change: TableChange) -> None:
    """Take out differences between two spellings of the same index."""
    found = [op for modification in change.modifications for op in modification.ops]
    drops = {str(op.index_name): op for op in found if isinstance(op, ops.DropIndexOp)}
    for op in found:
        if isinstance(op, ops.CreateIndexOp) and str(op.index_name) in drops.keys() & change.model_indexes.keys():
            drop = drops[str(op.index_name)]
            if _normalized(change, drop.to_index()) == _normalized(change, op.to_index()):
                change.remove([drop, op])
    for modification in change.modifications:
        modification.ops[:] = [_as_it_is(change, op) for op in modification.ops]


def _as_it_is(change: TableChange, op: ops.MigrateOperation) -> ops.MigrateOperation:
    """An operation on an index on an expression, so that its script is right about a % in it."""
    if not isinstance(op, (ops.CreateIndexOp, ops.DropIndexOp)):
        return op
    index, dialect = op.to_index(), change.context.dialect
    expressions = [one for one in index.expressions if not isinstance(one, (Column, str))]
    if not any("%" in str(one.compile(dialect=dialect, compile_kwargs=_LITERAL)) for one in expressions):
        return op
    made = CreateMemberIndexOp if isinstance(op, ops.CreateIndexOp) else DropMemberIndexOp
    return made.from_index(index)


def _normalized(change: TableChange, index: Index) -> str:
    """A statement without what PostgreSQL writes another way: casts, parentheses, quotes, spaces, case."""
    sql = str(CreateIndex(index).compile(dialect=change.context.dialect))
    without_casts = re.sub(r"::\w+", "", re.sub(r"CAST\((.*?) AS \w+\)", r"\1", sql))
    return re.sub(r'[\s()"]', "", without_casts.replace("%%", "%")).lower()
