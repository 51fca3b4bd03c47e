"""A table as a conversion walks it: page by page, in the order of its primary key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ColumnElement, Text, cast, column, inspect, literal, or_, select, table, true
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType

from granite_storage.batching import batched
from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.key_types import untellable
from granite_storage.maintenance.keyset import behind, has_key, in_order, is_row
from granite_storage.maintenance.row_locks import can_skip_rows, lock_rows

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, TableClause
    from sqlalchemy.types import TypeEngine

__all__ = ["Key", "KeyedTable", "Keys"]

Key = tuple[Any, ...]
"""The values of a row's primary key."""


_NAMED = 100  # more rows of a key of several columns take a database longer and longer to plan


class Keys:
    """Some primary keys; that a database finds what is no number is enough, which for Python is not the same as itself.

    >>> (float("nan"),) in Keys([(float("nan"),)])
    True
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys: set[Key] = set()
        self.add(keys)

    def add(self, keys: Iterable[Key]) -> None:
        """Take more of them."""
        self._keys.update(map(_comparable, keys))

    def __contains__(self, key: Key) -> bool:
        return _comparable(key) in self._keys


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

    def batches(self, keys: Sequence[Key]) -> Iterator[tuple[Sequence[Key], ColumnElement[bool]]]:
        """Keys, few enough at once for a statement to name them, and what tells their rows."""
        for some in batched(keys, _NAMED):
            if len(self.key) == 1:
                yield some, self.key[0].in_([literal(key[0], self.key[0].type) for key in some])
            else:
                yield some, or_(*map(self.is_row, some))

    def free_rows(
        self, connection: Connection, keys: Sequence[Key], same: ColumnElement[bool], *, for_unique: bool
    ) -> tuple[Keys, Keys]:
        """Lock rows that nobody else has locked, where the database can; gives those, and those that others have.

        What is neither is gone, or has changed.

        :param same: what tells the rows that have not changed.
        :param for_unique: whether a column that is unique may be written.
        """
        if not can_skip_rows(connection):
            return Keys(keys), Keys()
        free, locked = Keys(), Keys()
        for some, which in self.batches(keys):
            free.add(lock_rows(connection, self.key, which, for_unique=for_unique))
            if any(key not in free for key in some):
                others = connection.execute(select(*self.key).where(which, same))
                locked.add(key for key in map(tuple, others) if key not in free)
        return free, locked

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


def _comparable(key: Key) -> Key:
    return tuple(part if part == part else None for part in key)


def _bound_as(dialect: str, type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type by which a column's values come and go."""
    if dialect == "sqlite":  # which types values, not columns
        return NullType()
    if isinstance(type_, JSON) and dialect != "postgresql":  # MySQL; MariaDB's is text
        return Text()
    return type_
