"""Indexes on members of refs, which Alembic renders with each % doubled, as a driver has it and a script must not."""

from __future__ import annotations

from typing import Any

from alembic.operations import ops

__all__ = ["CreateMemberIndexOp", "DropMemberIndexOp"]


class CreateMemberIndexOp(ops.CreateIndexOp):
    """``op.create_index``, whose expressions are rendered as they are."""

    def reverse(self) -> Any:
        return DropMemberIndexOp.from_index(self.to_index())


class DropMemberIndexOp(ops.DropIndexOp):
    """``op.drop_index``, whose way back is a :class:`CreateMemberIndexOp`."""

    def reverse(self) -> Any:
        return CreateMemberIndexOp.from_index(self.to_index())
