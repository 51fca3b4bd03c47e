"""On MariaDB and MySQL an invisible generated column holds each indexed member of a file column, and has the index."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Column, Index, MetaData, String, Table

from alembic_ext.compare.member_indexes import member_indexes
from alembic_ext.operations.generated_columns import AddGeneratedColumnOp, DropGeneratedColumnOp
from granite_storage.orm.member_index import (
    INDEX_KEY,
    MEMBERS,
    check_generated_column,
    generated_column_name,
    indexed_part,
    member_index_name,
    member_key,
)

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]

log = logging.getLogger(__name__)

_Member = tuple[str, str]
"""A file column and the member of it that is indexed."""


def compare(change: TableChange) -> None:
    """Add and drop generated columns with their indexes; what Alembic made of them is taken out."""
    wanted = _wanted(change)
    generated = _generated(change, wanted)
    _forget(change, generated)
    _add_missing_indexes(change, [one for one in wanted if one in generated])
    dialect, dropped = change.context.dialect, change.dropped_columns()
    assert dialect is not None
    change.before += [
        DropGeneratedColumnOp(dialect, change.name, column, member, change.schema)
        for column, member in reversed(generated)
        if (column, member) not in wanted and (column in dropped or _is_compared(change, column, member))
    ]
    change.after += [
        AddGeneratedColumnOp(dialect, change.name, column, member, change.schema)
        for column, member in wanted
        if (column, member) not in generated
    ]


def _generated(change: TableChange, wanted: list[_Member]) -> list[_Member]:
    """The members that have a generated column, in their order: a column of the user's may have such a name, too."""
    if not change.exists:
        return []
    columns = change.context.inspector.get_columns(change.name, schema=change.schema)
    possible = {
        generated_column_name(column["name"], member): (column["name"], member)
        for column in columns
        for member in MEMBERS
    }
    in_models = set() if change.model is None else {column.name for column in change.model.columns}
    indexes = change.index_names()
    return [
        of
        for name, how in ((column["name"], column.get("computed")) for column in columns)
        if (of := possible.get(name)) is not None
        and name not in in_models
        and how is not None
        and f"$.{member_key(of[1])}" in how["sqltext"]
        and (of in wanted or member_index_name(change.name, *of) in indexes)
    ]


def _is_compared(change: TableChange, column: str, member: str) -> bool:
    name = member_index_name(change.name, column, member)
    models = [] if change.model is None else change.model.indexes
    return change.compares_index(name, next((index for index in models if index.name == name), None))


def _wanted(change: TableChange) -> list[_Member]:
    """The members that are to be indexed, in the models' order."""
    if change.model is None or change.drop_table is not None:
        return []
    declared = {index.info[INDEX_KEY] for index in change.model_indexes.values() if INDEX_KEY in index.info}
    every = [(column.name, member) for column in change.model_columns for member in MEMBERS]
    wanted = [one for one in every if one in declared]
    for column, member in wanted:
        check_generated_column(change.model, column, member)
    return wanted


def _forget(change: TableChange, generated: list[_Member]) -> None:
    declared = {} if change.model is None else {str(index.name): index for index in member_indexes(change.model)}
    ours = {member_index_name(change.name, *one) for one in generated}
    column_names = {generated_column_name(*one) for one in generated}
    unwanted: list[ops.MigrateOperation] = []
    for op in (op for modification in change.modifications for op in modification.ops):
        if isinstance(op, ops.DropColumnOp) and op.column_name in column_names:
            unwanted.append(op)
        elif isinstance(op, (ops.CreateIndexOp, ops.DropIndexOp)) and str(op.index_name) in ours | declared.keys():
            unwanted.append(op)
            if isinstance(op, ops.CreateIndexOp) and INDEX_KEY not in declared[str(op.index_name)].info:
                log.warning(
                    "Left out index %r on %r: this database indexes no expressions; "
                    "FileColumn(..., indexes=...) indexes a member on every database",
                    str(op.index_name),
                    change.name,
                )
    change.remove(unwanted)
    if change.drop_table is not None and change.drop_table._reverse is not None:
        reverse, file_columns = change.drop_table._reverse, {column for column, _ in generated}
        reverse.columns = [
            item
            for item in reverse.columns
            if not (isinstance(item, Column) and item.name in column_names) and not _checks_json(item, file_columns)
        ]


def _checks_json(item: object, file_columns: set[str]) -> bool:
    """Whether it is the CHECK that MariaDB's JSON type brings along."""
    return isinstance(item, CheckConstraint) and item.name in file_columns and "json_valid" in str(item.sqltext)


def _add_missing_indexes(change: TableChange, members: list[_Member]) -> None:
    """Make an index anew that was dropped by hand while its column stayed."""
    if not members:
        return
    assert change.context.dialect is not None
    present = change.index_names()
    for column, member in members:
        name, part = member_index_name(change.name, column, member), indexed_part(member)
        if name not in present:
            generated: Column[str] = Column(generated_column_name(column, member), String(1024))
            table = Table(change.name, MetaData(), generated, schema=change.schema)
            length: Any = {f"{change.context.dialect.name}_length": {generated.name: part}} if part else {}
            change.after.append(ops.CreateIndexOp.from_index(Index(name, generated, **length, _table=table)))
