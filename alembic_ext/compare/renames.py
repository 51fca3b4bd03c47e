"""A dropped file field and an added one of the same policy, which a rename looks like: told only by the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import Column

from alembic_ext.compare.column_types import portable_type
from alembic_ext.compare.standing import stands
from alembic_ext.compare.table_changes import policy_of
from alembic_ext.operations import DropFileTriggersOp, RenameFileColumnOp
from alembic_ext.operations.column_types import AlterFileTypeOp
from alembic_ext.operations.generated_columns import AddGeneratedColumnOp, DropGeneratedColumnOp
from alembic_ext.operations.kept_indexes import KeepIndexOp
from granite_storage.orm.member_index import MEMBERS, member_index_name
from granite_storage.orm.triggers import has_trigger

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(change: TableChange) -> None:
    """Make a rename of a drop and an add that look like one; what is there of the column is kept then."""
    for old, column, policy in _pairs(change):
        _rename(change, old, column, policy)


def _pairs(change: TableChange) -> list[tuple[str, Column[Any], str]]:
    """The old name, the new column and the policy, where exactly one field of a policy went and one came."""
    if change.model is None or change.create_table is not None or change.drop_table is not None:
        return []
    gone, noted = change.dropped_columns(), change.noted()
    new = change.added_columns()
    dropped = [column for column in change.stored_fields() if column in gone]
    added = [column for column in change.model_columns if column.name in new and policy_of(column) is not None]
    if len(dropped) == len(added) == 1 and dropped[0] not in noted:  # of an unknown policy, but there is no other
        return [(dropped[0], added[0], str(policy_of(added[0])))]
    pairs = []
    for policy in dict.fromkeys(str(policy_of(column)) for column in added):
        old = [column for column in dropped if column in noted and noted[column].policy == policy]
        came = [column for column in added if policy_of(column) == policy]
        if len(old) == len(came) == 1:
            pairs.append((old[0], came[0], policy))
    return pairs


def _rename(change: TableChange, old: str, column: Column[Any], policy: str) -> None:
    had, wants = stands(change, old), has_trigger(column)
    was = _without_columns(change, old, column.name)
    alter = None if was is None else _alteration(change, was, column)
    if alter is not None:
        next(change.modifications).ops.insert(0, alter)
    _forget_kept_indexes(change)
    # what a batch or a change of type behind the rename would lose is dropped before it and made after it
    lost = change.is_rebuilt(back=False) or change.is_rebuilt(back=True) or isinstance(alter, AlterFileTypeOp)
    names = change.storage.names(change.op_schema)
    indexed = () if lost else tuple(one for one in MEMBERS if _without_index(change, old, column.name, one))
    rename = RenameFileColumnOp(
        change.name,
        old,
        column.name,
        policy=policy,
        location_index="location" in indexed,
        indexes=tuple(one for one in indexed if one != "location"),
        triggers=had and wants and not lost and change.storage.before is change.storage,
        guessed=True,
        **names,
    )
    if had and not rename.triggers:
        change.before.insert(0, DropFileTriggersOp(change.name, old, **change.storage.before.names(change.op_schema)))
    for modification in change.modifications:  # before the rename, and after it on the way back
        drops = [op for op in modification.ops if isinstance(op, ops.DropIndexOp)]
        modification.ops[:] = [op for op in modification.ops if op not in drops]
        change.before += drops
    change.before.append(rename)
    change.renamed[old] = column.name


def _forget_kept_indexes(change: TableChange) -> None:
    """What was to be made again behind a batch, if there is no batch any more."""
    for found, back in ((change.before, True), (change.after, False)):
        if not change.is_rebuilt(back=back):
            change.remove([op for op in found if isinstance(op, KeepIndexOp)])


def _without_columns(change: TableChange, old: str, new: str) -> Column[Any] | None:
    """Take the drop and the add of a column out; gives the column that was."""
    was = None
    unwanted: list[ops.MigrateOperation] = []
    for op in (op for modification in change.modifications for op in modification.ops):
        if isinstance(op, ops.DropColumnOp) and op.column_name == old:
            was = op.to_column()
            unwanted.append(op)
        elif isinstance(op, ops.AddColumnOp) and op.column.name == new:
            unwanted.append(op)
    change.remove(unwanted)
    return was


def _without_index(change: TableChange, old: str, new: str, member: str) -> bool:
    """Take the drop and the creation of the index on a member out, if there are both: it is renamed then."""
    every = [*change.before, *change.after, *(op for one in change.modifications for op in one.ops)]
    going, coming = member_index_name(change.name, old, member), member_index_name(change.name, new, member)
    drops = [
        op
        for op in every
        if (isinstance(op, ops.DropIndexOp) and str(op.index_name) == going)
        or (isinstance(op, DropGeneratedColumnOp) and (op.column_name, op.member) == (old, member))
    ]
    makes = [
        op
        for op in every
        if (isinstance(op, ops.CreateIndexOp) and str(op.index_name) == coming)
        or (isinstance(op, AddGeneratedColumnOp) and (op.column_name, op.member) == (new, member))
    ]
    if not drops or not makes:
        return False
    change.remove([*drops, *makes])
    return True


def _alteration(change: TableChange, was: Column[Any], column: Column[Any]) -> ops.AlterColumnOp | None:
    """What changes besides the name."""
    dialect = change.context.dialect
    assert dialect is not None
    options: dict[str, Any] = {}
    if bool(was.nullable) != bool(column.nullable):
        options["modify_nullable"] = bool(column.nullable)
    if dialect.supports_comments and was.comment != column.comment:
        options["modify_comment"] = column.comment
    type_ = _other_type(change, str(was.name), column)
    if not options and type_ is None:
        return None
    alter = ops.AlterColumnOp(
        change.name,
        column.name,
        schema=change.op_schema,
        existing_type=type_ or portable_type(),
        existing_nullable=bool(was.nullable),
        existing_comment=was.comment,
        **options,
    )
    return alter if type_ is None else AlterFileTypeOp.of(alter, portable_type())


def _other_type(change: TableChange, old: str, column: Column[Any]) -> TypeEngine[Any] | None:
    """The type in the database, if Alembic is to compare types and would find another."""
    reflected = change.context.inspector.get_columns(change.name, schema=change.schema)
    (type_,) = (one["type"] for one in reflected if one["name"] == old)
    stored: Column[Any] = Column(column.name, type_)
    context, wanted = change.context.migration_context, change.context.opts.get("compare_type", True)
    if not wanted:
        return None
    differs = wanted(context, stored, column, type_, column.type) if callable(wanted) else None
    if differs is None:
        differs = context.impl.compare_type(stored, column)
    return type_ if differs else None
