"""The generated column that holds a member of a file column on MariaDB and MySQL: plain SQL in a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

from granite_storage.orm.member_index import drop_generated_column_ddl, generated_column_ddl

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["AddGeneratedColumnOp", "DropGeneratedColumnOp"]


class _GeneratedColumnOp(ops.ExecuteSQLOp):
    """One ALTER TABLE about the generated column that holds a member of a file column (MariaDB, MySQL)."""

    diff = ""

    def __init__(
        self, dialect: Dialect, table_name: str, column_name: str, member: str, schema: str | None = None
    ) -> None:
        self.dialect = dialect
        self.table_name = table_name
        self.column_name = column_name
        self.member = member
        self.schema = schema
        super().__init__(_as_text(dialect, self.ddl()))

    def ddl(self) -> str:
        raise NotImplementedError

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return (self.diff, self.schema, self.table_name, self.column_name, self.member)


def _as_text(dialect: Dialect, ddl: str) -> str:
    """A statement for a driver as op.execute() takes it, which makes a text() of it: % is doubled there, : escaped."""
    doubled = getattr(dialect.identifier_preparer, "_double_percents", False)
    return (ddl.replace("%%", "%") if doubled else ddl).replace(":", r"\:")


class AddGeneratedColumnOp(_GeneratedColumnOp):
    """Add the generated column and its index."""

    diff = "add_generated_column"

    def ddl(self) -> str:
        return generated_column_ddl(self.dialect, self.table_name, self.column_name, self.member, self.schema)

    def reverse(self) -> DropGeneratedColumnOp:
        return DropGeneratedColumnOp(self.dialect, self.table_name, self.column_name, self.member, self.schema)


class DropGeneratedColumnOp(_GeneratedColumnOp):
    """Drop the generated column, and with it its index."""

    diff = "remove_generated_column"

    def ddl(self) -> str:
        return drop_generated_column_ddl(self.dialect, self.table_name, self.column_name, self.member, self.schema)

    def reverse(self) -> AddGeneratedColumnOp:
        return AddGeneratedColumnOp(self.dialect, self.table_name, self.column_name, self.member, self.schema)
