"""Indexes on members of refs in PostgreSQL, where SQLAlchemy reflects them, in PostgreSQL's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alembic.operations import ops
from sqlalchemy.schema import CreateIndex

if TYPE_CHECKING:
    from sqlalchemy import Index

    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(change: TableChange) -> None:
    """Take out differences between two spellings of the same index."""
    found = [op for modification in change.modifications for op in modification.ops]
    drops = {str(op.index_name): op for op in found if isinstance(op, ops.DropIndexOp)}
    for op in found:
        if isinstance(op, ops.CreateIndexOp) and str(op.index_name) in drops.keys() & change.model_indexes.keys():
            drop = drops[str(op.index_name)]
            if _normalized(change, drop.to_index()) == _normalized(change, op.to_index()):
                change.remove([drop, op])


def _normalized(change: TableChange, index: Index) -> str:
    """A statement without what PostgreSQL writes another way: casts, parentheses, quotes, spaces, case."""
    sql = str(CreateIndex(index).compile(dialect=change.context.dialect))
    without_casts = re.sub(r"::\w+", "", re.sub(r"CAST\((.*?) AS \w+\)", r"\1", sql))
    return re.sub(r'[\s()"]', "", without_casts).lower()
