"""Operations that autogenerate writes for file fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

from granite_storage.orm.location_index import (
    generated_column_ddl,
    generated_column_name,
    location_index_name,
)

if TYPE_CHECKING:
    from sqlalchemy import Index
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["AddLocationColumnOp", "DropLocationColumnOp", "KeepIndexOp"]


class _LocationColumnOp(ops.ExecuteSQLOp):
    """One ALTER TABLE about the generated column that holds a file column's locations (MariaDB, MySQL)."""

    def __init__(self, dialect: Dialect, table_name: str, column_name: str, schema: str | None = None) -> None:
        self.dialect = dialect
        self.table_name = table_name
        self.column_name = column_name
        self.schema = schema
        super().__init__(_as_text(dialect, self.ddl()))

    def ddl(self) -> str:
        raise NotImplementedError

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return (self.diff, self.schema, self.table_name, self.column_name)

    diff = ""


def _as_text(dialect: Dialect, ddl: str) -> str:
    """A statement for a driver as op.execute() takes it, which makes a text() of it: % is doubled there, : escaped."""
    doubled = getattr(dialect.identifier_preparer, "_double_percents", False)
    return (ddl.replace("%%", "%") if doubled else ddl).replace(":", r"\:")


class AddLocationColumnOp(_LocationColumnOp):
    """Add the generated column and its index."""

    diff = "add_location_column"

    def ddl(self) -> str:
        return generated_column_ddl(self.dialect, self.table_name, self.column_name, self.schema)

    def reverse(self) -> DropLocationColumnOp:
        return DropLocationColumnOp(self.dialect, self.table_name, self.column_name, self.schema)


class DropLocationColumnOp(_LocationColumnOp):
    """Drop the generated column, and with it its index."""

    diff = "remove_location_column"

    def ddl(self) -> str:
        preparer = self.dialect.identifier_preparer
        table = preparer.quote(self.table_name)
        target = f"{preparer.quote_schema(self.schema)}.{table}" if self.schema else table
        index = preparer.quote(location_index_name(self.table_name, self.column_name))
        column = preparer.quote(generated_column_name(self.column_name))
        return f"ALTER TABLE {target} DROP INDEX {index}, DROP COLUMN {column}"

    def reverse(self) -> AddLocationColumnOp:
        return AddLocationColumnOp(self.dialect, self.table_name, self.column_name, self.schema)


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
