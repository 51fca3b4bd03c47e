"""Indexes on members of refs in SQLite, which neither SQLAlchemy reflects nor Alembic compares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import Column, Index, MetaData, Table, literal_column
from sqlalchemy.schema import CreateIndex

from alembic_ext.compare.column_types import portable_type
from alembic_ext.compare.member_indexes import sqlite_indexes
from alembic_ext.operations.kept_indexes import KeepIndexOp
from granite_storage.orm.member_index import MEMBERS, member_expression, member_index_name

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(change: TableChange) -> None:
    """Drop, create and keep the indexes, all outside of batch blocks: a batch does not see them."""
    stored = _stored(change)
    wanted = change.model_indexes
    ddl = {name: str(CreateIndex(index).compile(dialect=change.context.dialect)) for name, index in wanted.items()}
    kept = [name for name in wanted if name in stored and _normalized(stored[name]) == _normalized(ddl[name])]
    change.before += [
        ops.DropIndexOp.from_index(_stored_index(change, name, stored[name]))
        for name in sorted((_given_up(change, stored) | stored.keys() & wanted.keys()) - set(kept))
    ]
    change.after += [ops.CreateIndexOp.from_index(index) for name, index in wanted.items() if name not in kept]
    for name in kept:
        _keep(change, wanted[name])


def _stored(change: TableChange) -> dict[str, str]:
    """The statements in the database, by the names that the indexes have once those of an old table name followed."""
    stored = sqlite_indexes(change.context, change.name, change.schema) if change.exists else {}
    new_names = {} if change.followed is None else change.followed.index_names
    return {new_names.get(name, name): sql for name, sql in stored.items()}


def _given_up(change: TableChange, stored: dict[str, str]) -> set[str]:
    """The indexes that the models do not have any more, and those that would be lost with a column or table."""
    columns = change.stored_fields()
    lost = set(columns) & change.dropped_columns()
    on_lost = {name for name, sql in stored.items() if any(_mentions(sql, column) for column in lost)}
    models = set() if change.model is None else {str(index.name) for index in change.model.indexes}
    ours = {member_index_name(change.name, column, member) for column in columns for member in MEMBERS}
    ours = {name for name, sql in stored.items() if name in ours or _is_of_a_member(change, name, sql, columns)}
    return on_lost | {name for name in ours - models if change.compares_index(name)}


def _is_of_a_member(change: TableChange, name: str, sql: str, columns: list[str]) -> bool:
    """Whether an index is on a member and nothing else, whatever its name: that of a table that was renamed, too."""
    return any(
        _normalized(sql) == _normalized(str(CreateIndex(index).compile(dialect=change.context.dialect)))
        for column in columns
        for member in MEMBERS
        for index in [Index(name, member_expression(_file_column(change, column), member))]
    )


def _file_column(change: TableChange, name: str) -> Column[Any]:
    return Table(change.name, MetaData(), Column(name, portable_type()), schema=change.schema).columns[name]


def _keep(change: TableChange, index: Index) -> None:
    """A batch makes the table anew, on the way up or on the way down, with the indexes it knows of."""
    if change.is_rebuilt(back=True):
        change.before.append(KeepIndexOp.of(index, told=False))
    if change.is_rebuilt(back=False):
        change.after.append(KeepIndexOp.of(index, told=True))


def _mentions(sql: str, column: str) -> bool:
    return re.search(rf'json_extract\s*\(\s*["`\[]?{re.escape(column)}["`\]]?\s*,', sql, re.IGNORECASE) is not None


def _normalized(sql: str) -> str:
    """A statement without what makes no difference: spaces, case, quotes, the schema of the index."""
    text = re.sub(r'[\s"`\[\]]', "", sql.replace("IF NOT EXISTS", "")).lower()
    return re.sub(r"index[^(]*?on", "indexon", text, count=1)


def _stored_index(change: TableChange, name: str, sql: str) -> Index:
    """An index as a stored statement has it, so that the way back makes the same."""
    expressions = sql[sql.index("(") + 1 : sql.rindex(")")]
    columns: list[Column[Any]] = [Column(column, portable_type()) for column in change.database_columns()]
    table = Table(change.name, MetaData(), *columns, schema=change.schema)
    unique = re.match(r"\s*CREATE\s+UNIQUE", sql, re.IGNORECASE) is not None
    return Index(name, literal_column(expressions), unique=unique, _table=table)
