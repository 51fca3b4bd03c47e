"""Where an operation works: the statements it makes are run online, and printed in ``--sql`` mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A database, or a script for one."""

    operations: Operations

    @property
    def connection(self) -> Connection | None:
        """The connection to ask; None in ``--sql`` mode, where nobody answers."""
        return None if self.operations.migration_context.as_sql else self.operations.get_bind()

    @property
    def dialect(self) -> Dialect:
        return self.operations.migration_context.impl.dialect

    def run(self, *sql: str) -> None:
        """Run statements, or print them, as they are."""
        from granite_storage.orm.triggers.statement import statement

        for one in sql:
            self.operations.execute(statement(one))

    def execute(self, statement: Any) -> None:
        """Run a statement of SQLAlchemy's, or print it."""
        self.operations.execute(statement)

    def literal(self, value: Any) -> Any:
        """A value in a statement that may be printed."""
        # a quoted_name is a name, and has no literal
        return self.operations.inline_literal(str(value) if isinstance(value, str) else value)

    def has_table(self, name: str, schema: str | None) -> bool | None:
        """Whether a table is there; None if nobody answers."""
        from sqlalchemy import inspect

        connection = self.connection
        return None if connection is None else inspect(connection).has_table(name, schema)

    def is_default(self, schema: str | None) -> bool:
        """Whether a schema is the one in which tables without one are."""
        return schema is None or schema == self.dialect.default_schema_name
