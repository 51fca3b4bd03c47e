"""Indexes on expressions that a batch loses, since SQLAlchemy does not reflect them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

if TYPE_CHECKING:
    from sqlalchemy import Index

__all__ = ["KeepIndexOp"]


class KeepIndexOp(ops.CreateIndexOp):
    """Make an index anew that a batch loses with the table it replaces; on one side of the batch, and told only there.

    The way back turns the sides around, so the op that is told after a batch is silent before it.
    """

    told = True

    @classmethod
    def of(cls, index: Index, *, told: bool) -> KeepIndexOp:
        op = cls.from_index(index)
        assert isinstance(op, cls)
        op.told = told
        return op

    def reverse(self) -> Any:
        return KeepIndexOp.of(self.to_index(), told=not self.told)

    def to_diff_tuple(self) -> Any:
        return ("keep_index", self.to_index())
