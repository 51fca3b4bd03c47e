"""What autogenerate found, refined by what is known about file fields; one concept a file.

It is one comparator that runs last, on the whole list of operations: only there a dropped column, its index and the
table around them are seen together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import alembic_ext.render  # noqa: F401 - registers the renderers of our operations
from alembic_ext.compare import column_types, expression_indexes, generated_columns, reflected_indexes
from alembic_ext.compare.table_changes import TableChanges
from granite_storage.orm.location_index import GENERATED_COLUMN_DIALECTS

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

__all__ = ["refine"]


def refine(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> None:
    """Refine the operations that autogenerate found, in place."""
    assert context.dialect is not None
    changes = TableChanges(context, upgrade_ops, schemas)
    for change in changes:
        column_types.make_portable(change)
        if context.dialect.name == "sqlite":
            expression_indexes.compare(change)
        elif context.dialect.name in GENERATED_COLUMN_DIALECTS:
            generated_columns.compare(change)
        elif context.dialect.name == "postgresql":
            reflected_indexes.compare(change)
    upgrade_ops.ops[:] = changes.operations()
