"""What autogenerate found, refined by what is known about file fields; one concept a file.

It is one comparator that runs last, on the whole list of operations: only there a dropped column, its index and the
table around them are seen together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations.ops import DropTableOp

import alembic_ext.render  # noqa: F401 - registers the renderers of our operations
from alembic_ext.compare import (
    column_types,
    expression_indexes,
    fields,
    generated_columns,
    reflected_indexes,
    renamed_tables,
    renames,
    storage_tables,
    triggers,
    vanished_tables,
)
from alembic_ext.compare.storages import all_storages
from alembic_ext.compare.table_changes import TableChanges
from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

__all__ = ["refine"]


def refine(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> None:
    """Refine the operations that autogenerate found, in place."""
    assert context.dialect is not None
    dropped = [(op.schema, op.table_name) for op in upgrade_ops.ops if isinstance(op, DropTableOp)]
    storages = all_storages(context, dropped)
    if not any(one.is_used for one in storages):
        return
    storage_tables.note_made(upgrade_ops.ops, storages)
    followed = renamed_tables.follow(context, upgrade_ops, storages, schemas)
    changes = TableChanges(context, upgrade_ops, schemas, storages)
    for change in changes:
        column_types.make_portable(change)
        if context.dialect.name == "sqlite":
            expression_indexes.compare(change)
        elif context.dialect.name in GENERATED_COLUMN_DIALECTS:
            generated_columns.compare(change)
        elif context.dialect.name == "postgresql":
            reflected_indexes.compare(change)
        renames.compare(change)
        fields.compare(change)
        triggers.compare(change)
    vanished = [op for one in storages for op in vanished_tables.compare(context, one, list(changes), schemas)]
    upgrade_ops.ops[:] = storage_tables.ordered(context, [*followed, *vanished, *changes.operations()], storages)
