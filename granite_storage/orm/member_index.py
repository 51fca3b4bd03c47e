"""Indexes on members of refs, such as sizes and locations, on every database.

SQLite and PostgreSQL index the expression. MariaDB indexes no expressions, so there (and on MySQL) an invisible
generated column holds the member and is indexed; the ORM never sees it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Alias, Index, event, inspect
from sqlalchemy import column as sql_column
from sqlalchemy.sql.expression import TableClause

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.members import RefMember
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Connection, Pool, SQLColumnExpression, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql.elements import ColumnClause, ColumnElement

__all__ = [
    "GENERATED_COLUMN_DIALECTS",
    "INDEX_KEY",
    "MEMBERS",
    "add_member_index",
    "check_generated_column",
    "checked_members",
    "drop_generated_column_ddl",
    "fitted_name",
    "generated_column_ddl",
    "generated_column_name",
    "indexed_member",
    "indexed_part",
    "member_expression",
    "member_index_name",
    "member_key",
]

INDEX_KEY = "granite_storage.member_of"
"""In ``Index.info``: the name of the file column and the member that one of these indexes belongs to."""

GENERATED_COLUMN_DIALECTS = ("mysql", "mariadb")
_EXPRESSION_DIALECTS = ("sqlite", "postgresql")
_MAX_NAME = 60  # PostgreSQL has 63 bytes for a name, MariaDB 64 characters

_TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"  # compares as the texts of the other databases do
_SHORT = f"VARCHAR(255) {_TEXT}"
MEMBERS: dict[str, tuple[str, int | None]] = {
    "size": ("BIGINT", None),
    "content_type": (_SHORT, None),
    "filename": (f"TEXT {_TEXT}", 255),  # earlier versions wrote longer ones than are accepted now
    "location": (f"VARCHAR(1024) {_TEXT}", 255),
    "checksum": (_SHORT, None),
    "created_at": (_SHORT, None),
    "storage_key": (_SHORT, None),
    "backend": (_SHORT, None),
}
"""The type of each member's generated column, and how many characters of it are in the index; None for all."""

_T = TypeVar("_T")
_columns_found: WeakKeyDictionary[Pool, dict[tuple[str | None, str], set[str]]] = WeakKeyDictionary()


def checked_members(declared: str, chosen: Iterable[str]) -> tuple[str, ...]:
    """The members that ``indexes=`` of a declaration names, each once.

    :raises ConfigurationError: if one is no member, or is the location.
    """
    members = tuple(dict.fromkeys((chosen,) if isinstance(chosen, str) else chosen))
    for member in members:
        if member not in MEMBERS or member == "location":
            known = ", ".join(name for name in MEMBERS if name != "location")
            hint = "location_index=True says that" if member == "location" else f"there are {known}"
            raise ConfigurationError(f"{declared}: indexes names {member!r}, which it does not take; {hint}")
    return members


def member_expression(column: ColumnElement[Any], member: str) -> ColumnElement[Any]:
    """A member of a file column in SQL.

    >>> print(member_expression(sql_column("report"), "size"))
    (CAST((report ->> 'size') AS BIGINT))
    """
    expression: ColumnElement[Any] = getattr(FileComparator(column), member)
    return expression


def member_index_name(table: str, column: str, member: str) -> str:
    """The name of the index on a member of a file column, which no ``index=True`` of another column gets.

    A long one is cut and told apart by a hash.

    >>> member_index_name("document", "report", "size")
    'ix_document__report__size'
    """
    return fitted_name(f"ix_{table}__{column}__{member}")


def generated_column_name(column: str, member: str) -> str:
    """The name of the generated column that holds a member of a file column on MariaDB and MySQL.

    >>> generated_column_name("report", "size")
    'report__size'
    """
    return fitted_name(f"{column}__{member}")


def fitted_name(name: str) -> str:
    """A name that every database takes: one of more than 60 bytes is cut and told apart by a hash."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    cut = name.encode()[: _MAX_NAME - 9].decode(errors="ignore")
    return f"{cut}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def member_key(member: str) -> str:
    """What a ref's JSON calls a member.

    >>> member_key("filename")
    'original_filename'
    """
    key: str = getattr(member_expression(sql_column("ref"), member), "member")  # noqa: B009 - of RefMember
    return key


def indexed_part(member: str) -> int | None:
    """How many characters of a member's generated column are in its index; None for all."""
    return MEMBERS[member][1]


def add_member_index(table: Table, column: Column[Any], member: str) -> None:
    """Give a table the index on a member of a file column; once, however often it is called."""
    if any(index.info.get(INDEX_KEY) == (column.name, member) for index in table.indexes):
        return
    name = member_index_name(table.name, column.name, member)
    # _column_flag, as Column(index=True) has it: a table made by to_metadata() makes its own instead of a copy
    info = {INDEX_KEY: (column.name, member)}
    index = Index(name, member_expression(column, member), info=info, _column_flag=True)
    index.ddl_if(dialect=_EXPRESSION_DIALECTS)  # type: ignore[arg-type]  # one or several, says its documentation

    def check_name(target: Table, connection: Connection, **_: Any) -> None:
        if connection.dialect.name in GENERATED_COLUMN_DIALECTS:
            check_generated_column(target, column.name, member)

    def add_generated_column(target: Table, connection: Connection, **_: Any) -> None:
        if connection.dialect.name in GENERATED_COLUMN_DIALECTS:
            schema = connection.schema_for_object(target)
            ddl = generated_column_ddl(connection.dialect, target.name, column.name, member, schema)
            connection.exec_driver_sql(ddl)

    event.listen(table, "before_create", check_name)
    event.listen(table, "after_create", add_generated_column)


def check_generated_column(table: Table, column: str, member: str) -> None:
    """See that the models leave the name of a generated column free.

    :raises ConfigurationError: if a column of the table has it.
    """
    name = generated_column_name(column, member)
    if any(one.name.lower() == name.lower() for one in table.columns):  # MariaDB and MySQL tell no case
        without = "location_index=False" if member == "location" else f"indexes= without {member!r}"
        raise ConfigurationError(
            f"table {table.name!r} has a column {name!r}, and so is named the generated column that the index on "
            f"{column}.{member} takes on MariaDB and MySQL; rename yours, or declare {column!r} with {without}"
        )


def generated_column_ddl(
    dialect: Dialect, table: str, column: str, member: str = "location", schema: str | None = None
) -> str:
    """The statement that adds a generated column and its index on MariaDB and MySQL."""
    quote = dialect.identifier_preparer.quote
    target = f"{quote(schema)}.{quote(table)}" if schema else quote(table)
    generated = quote(generated_column_name(column, member))
    type_, part = MEMBERS[member]
    value = member_expression(sql_column(column), member).compile(dialect=dialect)
    return (
        f"ALTER TABLE {target} ADD COLUMN {generated} {type_} "
        f"GENERATED ALWAYS AS ({value}) VIRTUAL INVISIBLE, "
        f"ADD INDEX {quote(member_index_name(table, column, member))} "
        f"({generated}{'' if part is None else f'({part})'})"
    )


def drop_generated_column_ddl(
    dialect: Dialect, table: str, column: str, member: str = "location", schema: str | None = None
) -> str:
    """The statement that drops a generated column, and with it its index, on MariaDB and MySQL."""
    quote = dialect.identifier_preparer.quote
    target = f"{quote(schema)}.{quote(table)}" if schema else quote(table)
    index = quote(member_index_name(table, column, member))
    return f"ALTER TABLE {target} DROP INDEX {index}, DROP COLUMN {quote(generated_column_name(column, member))}"


def indexed_member(connection: Connection, member: SQLColumnExpression[_T]) -> ColumnElement[_T]:
    """The expression to search or sort by a member, so that the database uses its index.

    On MariaDB and MySQL the generated column if the table has it (asked once an engine), on others the member as it
    is: ``select(Document).where(indexed_member(session.connection(), Document.report.size) > 1_000_000)``.

    :param member: a member of a file field, of an alias too.
    :raises ConfigurationError: if it is anything else.
    """
    given: Any = member
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    if not isinstance(element, RefMember):
        raise ConfigurationError(
            f"indexed_member() takes a member of a file field such as Document.report.size, not {member!r}"
        )
    (column,) = element.clauses
    name = next(name for name in MEMBERS if isinstance(element, type(member_expression(column, name))))
    table = getattr(column, "table", None)
    stored = table.element if isinstance(table, Alias) else table
    if connection.dialect.name not in GENERATED_COLUMN_DIALECTS or not isinstance(stored, TableClause):
        return element
    schema = connection.schema_for_object(stored)  # type: ignore[arg-type]  # of every table, not only of HasSchema
    known = _columns_found.setdefault(connection.engine.pool, {})
    generated = generated_column_name(column.name, name)
    if generated not in known.get((schema, stored.name), ()):  # asked until it is there: migrations may add it any time
        columns = inspect(connection).get_columns(stored.name, schema)
        known[schema, stored.name] = {found["name"] for found in columns}
        if generated not in known[schema, stored.name]:
            return element
    place: ColumnClause[_T] = sql_column(generated, element.type)
    place.table = table  # not in the Table, where the ORM and autogenerate would find it
    return place
