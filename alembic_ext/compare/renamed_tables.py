"""Tables that were renamed by ``op.rename_table``: what the registry notes about their fields is followed first.

All that belongs to the fields is taken along to the new name by one operation before all others. The rest is compared
as if that had been done: more may have changed than the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import ops

from alembic_ext.compare.member_indexes import index_names
from alembic_ext.compare.storages import FieldRow, key_of
from alembic_ext.compare.table_changes import policy_of, was_compared
from alembic_ext.operations import RenameFileTableOp
from granite_storage.orm.member_index import MEMBERS, member_index_name
from granite_storage.orm.triggers import TRIGGER_VERSION

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import Table

    from alembic_ext.compare.storages import Storage

__all__ = ["follow", "is_gone"]

_Key = tuple[str | None, str]


def follow(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, storages: list[Storage], schemas: set[str | None]
) -> list[RenameFileTableOp]:
    """Take what is noted about tables that are gone along to those that they became."""
    found: list[RenameFileTableOp] = []
    for storage in storages:
        for old in [key for key in storage.rows if is_gone(context, key, schemas)]:
            became = _became(context, upgrade_ops, storage, old, schemas)
            if became is not None:
                found.append(_rename(context, storage, old[1], *became))
                _name_indexes(context, upgrade_ops, became[0], found[-1].index_names)
    return found


def is_gone(context: AutogenContext, key: _Key, schemas: set[str | None]) -> bool:
    """Whether a table of the registry should be in the database, and is not."""
    schema, name = key
    if schema not in schemas or not context.run_name_filters(name, "table", {"schema_name": schema}):
        return False
    return not context.inspector.has_table(name, schema=schema)


def _became(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, storage: Storage, old: _Key, schemas: set[str | None]
) -> tuple[_Key, Table | None] | None:
    """The one table that has indexes on members of the old one; or else the one that has its file fields."""
    created = {_key(context, op) for op in upgrade_ops.ops if isinstance(op, ops.CreateTableOp)}
    dropped = {_key(context, op): None for op in upgrade_ops.ops if isinstance(op, ops.DropTableOp)}
    models = {
        key_of(context, table.schema, table.name): table
        for table in context.sorted_tables
        if table.metadata is storage.metadata
    }
    candidates: dict[_Key, Table | None] = {
        key: table
        for key, table in {**dropped, **models}.items()
        if key[0] == old[0]
        and key not in storage.rows
        and key not in created
        and (table is None or was_compared(context, key, table, schemas))
    }
    indexes = {member_index_name(old[1], column, member) for column in storage.rows[old] for member in MEMBERS}
    certain = [one for one in candidates.items() if indexes & index_names(context, one[0][1], one[0][0])]
    likely = [one for one in candidates.items() if _has_the_fields(context, storage, old, *one)]
    for found in (certain, likely):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _has_the_fields(context: AutogenContext, storage: Storage, old: _Key, key: _Key, model: Table | None) -> bool:
    if model is None:
        return False
    noted = storage.rows[old].keys()
    declared = {column.name for column in model.columns if policy_of(column) is not None}
    return noted <= set(_columns(context, key)) and bool(noted & declared)


def _rename(context: AutogenContext, storage: Storage, old: str, new: _Key, model: Table | None) -> RenameFileTableOp:
    """The operation; the registry's rows are then taken for those that it leaves."""
    schema, name = new
    rows = storage.rows[schema, old]
    columns = [column for column in _columns(context, new) if column in rows]
    indexes = index_names(context, name, schema)
    indexed = {
        column: [member for member in MEMBERS if member_index_name(old, column, member) in indexes]
        for column in columns
    }
    located = [column for column in columns if "location" in indexed[column]]
    others = {column: tuple(one for one in indexed[column] if one != "location") for column in columns}
    with_triggers = [column for column in columns if rows[column].trigger_version is not None and storage.outbox]
    op = RenameFileTableOp(
        old,
        name,
        columns={column: rows[column].policy or "" for column in columns},
        location_indexes=None if located == columns else tuple(located),
        indexes={column: members for column, members in others.items() if members} or None,
        triggers=tuple(with_triggers),
        rename_table=False,
        **storage.names(schema if model is None else model.schema),
    )
    storage.rows[new] = {
        column: FieldRow(rows.pop(column).policy, TRIGGER_VERSION if column in with_triggers else None)
        for column in columns
    }
    storage.followed[new] = op
    return op


def _name_indexes(context: AutogenContext, upgrade_ops: ops.UpgradeOps, key: _Key, names: dict[str, str]) -> None:
    """Let what drops an index on a member in the table call it by its new name."""
    for modification in upgrade_ops.ops:
        if isinstance(modification, ops.ModifyTableOps) and _key(context, modification) == key:
            for op in modification.ops:
                if isinstance(op, ops.DropIndexOp) and str(op.index_name) in names:
                    op.index_name = names[str(op.index_name)]


def _columns(context: AutogenContext, key: _Key) -> list[str]:
    return [column["name"] for column in context.inspector.get_columns(key[1], schema=key[0])]


def _key(context: AutogenContext, op: ops.CreateTableOp | ops.DropTableOp | ops.ModifyTableOps) -> _Key:
    return key_of(context, op.schema, op.table_name)
