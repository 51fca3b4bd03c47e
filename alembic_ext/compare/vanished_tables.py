"""Rows of the registry whose table is gone and was not renamed: it was dropped by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic_ext.compare.renamed_tables import is_gone
from alembic_ext.operations import UnregisterFileColumnOp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrateOperation

    from alembic_ext.compare.storages import Storage
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["compare"]


def compare(
    context: AutogenContext, storage: Storage, changes: Sequence[TableChange], schemas: set[str | None]
) -> list[MigrateOperation]:
    """Forget the fields of tables that are gone."""
    known = {(one.schema, one.name) for one in changes}
    return [
        UnregisterFileColumnOp(key[1], column, objects="keep", policy=row.policy, **storage.names(key[0]))
        for key, rows in storage.rows.items()
        if key not in known and is_gone(context, key, schemas)
        for column, row in rows.items()
    ]
