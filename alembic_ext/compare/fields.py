"""The registry's rows: fields that are new, gone, or bound to another policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic_ext.compare.table_changes import policy_of
from alembic_ext.operations import RebindFileColumnOp, RegisterFileColumnOp, UnregisterFileColumnOp

if TYPE_CHECKING:
    from alembic.operations.ops import MigrateOperation

    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(change: TableChange) -> None:
    """Register what is new, unregister what is gone, rebind the rest where its policy is another."""
    change.before[:0] = _gone(change)
    change.before += _replaced(change)
    if change.storage.registers:
        change.after += [*_new(change), *_rebound(change)]


def _gone(change: TableChange) -> list[MigrateOperation]:
    """Dropped columns, whose objects go to the outbox; and what is a file field no longer, but still a column."""
    noted, dropped = change.noted(), change.dropped_columns()
    declared = {column.name for column in change.model_columns if policy_of(column) is not None}
    present = change.database_columns()
    every = set() if change.model is None else {column.name for column in change.model.columns}
    ordinary = {column for column in every - declared if change.compares_column(column)}
    found: list[MigrateOperation] = []
    for column in [*change.stored_fields(), *(column for column in noted if column not in present)]:
        row = noted.get(column)
        if column in change.renamed:
            continue
        if column in dropped:
            objects = "free" if change.storage.frees else "keep"
        elif row is not None and (column in ordinary or column not in present) and column not in declared:
            objects = "keep"
        else:
            continue
        policy = None if row is None else row.policy
        names = change.storage.names(change.op_schema)
        found.append(UnregisterFileColumnOp(change.name, column, objects=objects, policy=policy, **names))
    return found


def _replaced(change: TableChange) -> list[MigrateOperation]:
    """What a registry notes that is dropped for one of another name: the way back notes it again."""
    before = change.storage.before
    if before.registry == change.storage.registry:
        return []
    rows = before.rows.get((change.schema, change.name), {})
    names = before.names(change.op_schema)
    return [
        UnregisterFileColumnOp(change.name, column, objects="keep", policy=row.policy, **names)
        for column, row in rows.items()
    ]


def _new(change: TableChange) -> list[MigrateOperation]:
    noted, added = change.noted(), change.added_columns()
    names = change.storage.names(change.op_schema)
    # a column that is not dropped on the way back keeps its objects then
    on_return = {True: "free" if change.storage.frees else "keep", False: "keep"}
    return [
        RegisterFileColumnOp(
            change.name, column.name, policy=policy_of(column), objects=on_return[column.name in added], **names
        )
        for column in change.declared_fields()
        if column.name not in change.renamed.values()
        and (column.name in added or column.name not in noted or noted[column.name].policy is None)
    ]


def _rebound(change: TableChange) -> list[MigrateOperation]:
    noted, added = change.noted(), change.added_columns()
    names = change.storage.names(change.op_schema)
    found: list[MigrateOperation] = []
    for column in change.declared_fields():
        row = noted.get(column.name)
        if row is not None and row.policy not in (None, policy_of(column)) and column.name not in added:
            found.append(RebindFileColumnOp(change.name, column.name, str(row.policy), str(policy_of(column)), **names))
    return found
