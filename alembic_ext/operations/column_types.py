"""A column that becomes a file column, or stops being one: its type changes with the text kept as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.types import TypeEngine

__all__ = ["AlterFileTypeOp"]


class AlterFileTypeOp(ops.AlterColumnOp):
    """``op.alter_column`` with the USING that PostgreSQL wants, which Alembic does not write by itself."""

    @classmethod
    def of(cls, op: ops.AlterColumnOp, type_: TypeEngine[Any]) -> AlterFileTypeOp:
        made = cls(op.table_name, op.column_name)
        made.__dict__.update(op.__dict__)
        made.modify_type = type_
        return made

    def using(self, dialect: Dialect) -> str | None:
        """What casts the values; None on a database that asks for no such thing."""
        if dialect.name != "postgresql" or self.modify_type is None:
            return None
        column = dialect.identifier_preparer.quote(self.column_name)
        if dialect.paramstyle in ("format", "pyformat"):
            column = column.replace("%%", "%")
        return f"{column}::{self.modify_type.compile(dialect).lower()}"
