"""A table as a conversion walks it: page by page, in the order of its primary key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ColumnElement, Text, cast, column, inspect, or_, select, table, true
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.key_types import untellable
from granite_storage.maintenance.keyset import behind, has_key, in_order, is_row
from granite_storage.maintenance.row_locks import can_skip_rows, lock_rows

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, TableClause
    from sqlalchemy.types import TypeEngine

__all__ = ["Key", "KeyedTable"]

Key = tuple[Any, ...]
"""The values of a row's primary key."""


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """A table, its columns by name, and those of its primary key."""

    clause: TableClause
    key: tuple[ColumnClause[Any], ...]
    types: dict[str, TypeEngine[Any]]
    nullable: frozenset[str]
    dialect: str

    @classmethod
    def reflect(cls, connection: Connection, name: str, schema: str | None) -> KeyedTable:
        """Ask the database for a table.

        :raises ConfigurationError: if it is missing or has no primary key that tells rows, saying what to do.
        """
        inspector = inspect(connection)
        full = f"{schema}.{name}" if schema else name
        try:
            columns = inspector.get_columns(name, schema)
            key = inspector.get_pk_constraint(name, schema)["constrained_columns"]
        except NoSuchTableError as error:
            raise ConfigurationError(f"there is no table {full!r} in this database") from error
        if not key:
            raise ConfigurationError(
                f"table {full!r} has no primary key, by which its rows are told apart: give it one first, such as "
                "op.create_primary_key() of a column that is unique"
            )
        found = {str(one["name"]): one["type"] for one in columns}
        clauses = {one: column(one, _bound_as(connection.dialect.name, type_)) for one, type_ in found.items()}
        keys = tuple(clauses[one] for one in key)
        problem = untellable(connection.dialect.name, [column(one, found[one]) for one in key])
        if problem is not None:
            raise ConfigurationError(f"table {full!r}: {problem}; give it another primary key first")
        return cls(
            table(name, *clauses.values(), schema=schema),
            keys,
            found,
            frozenset(str(one["name"]) for one in columns if one["nullable"]),
            connection.dialect.name,
        )

    def column(self, name: str) -> ColumnClause[Any]:
        """A column by its name.

        :raises ConfigurationError: if there is none, naming those that there are.
        """
        if name not in self.types:
            known = ", ".join(map(repr, self.types))
            raise ConfigurationError(f"table {self.clause.fullname!r} has no column {name!r}; it has {known}")
        return self.clause.c[name]

    def text(self, name: str) -> ColumnElement[Any]:
        """A column's value as text; of a JSON column its JSON text."""
        clause = self.column(name)
        return cast(clause, Text()) if self.dialect == "postgresql" else clause

    def is_row(self, key: Key) -> ColumnElement[bool]:
        """What tells one row."""
        return is_row(self.key, key)

    def are_rows(self, keys: Iterable[Key]) -> ColumnElement[bool]:
        """What tells some rows, one at least."""
        return or_(*map(self.is_row, keys))

    def free_rows(
        self, connection: Connection, keys: Collection[Key], same: ColumnElement[bool]
    ) -> tuple[set[Key], set[Key]]:
        """Lock rows that nobody else has locked, where the database can; gives those, and those that others have.

        What is neither is gone, or has changed.

        :param same: what tells the rows that have not changed.
        """
        if not keys or not can_skip_rows(connection):
            return set(keys), set()
        free = lock_rows(connection, self.key, self.are_rows(keys))
        others = [key for key in keys if key not in free]
        locked = select(*self.key).where(self.are_rows(others), same) if others else None
        return free, set() if locked is None else {tuple(row) for row in connection.execute(locked)}

    def has_key(self) -> ColumnElement[bool]:
        """What leaves out rows that nobody can name: SQLite lets a primary key be NULL."""
        return has_key(self.key)

    def order(self) -> list[ColumnElement[Any]]:
        """What to order rows by."""
        return in_order(self.dialect, self.key)

    def after(self, key: Key | None) -> ColumnElement[bool]:
        """The rows behind one, in the order of the primary key; all if it is None."""
        return true() if key is None else behind(self.dialect, self.key, key)

    def told(self, key: Sequence[Any]) -> str:
        """A row in words.

        >>> from sqlalchemy import column, table
        >>> one = KeyedTable(table("document"), (column("id"),), {}, frozenset(), "sqlite")
        >>> one.told((5,))
        'document (id=5)'
        """
        pairs = ", ".join(f"{one.name}={value!r}" for one, value in zip(self.key, key, strict=True))
        return f"{self.clause.fullname} ({pairs})"


def _bound_as(dialect: str, type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type by which a column's values come and go."""
    if dialect == "sqlite":  # which types values, not columns
        return NullType()
    if isinstance(type_, JSON) and dialect != "postgresql":  # MySQL; MariaDB's is text
        return Text()
    return type_
