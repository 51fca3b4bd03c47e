"""Whether a table in the database has the triggers of a column, asked of its catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granite_storage.orm.triggers import FileTrigger, definitions_for

if TYPE_CHECKING:
    from alembic_ext.compare.table_changes import TableChange

__all__ = ["stands"]


def stands(change: TableChange, column: str) -> bool:
    """Whether a column has all of its triggers now."""
    connection = change.context.connection
    assert connection is not None
    definitions = definitions_for(connection.dialect.name)
    if not change.exists or definitions is None:
        return False
    if change.followed is not None:
        return column in change.followed.triggers  # which are made then
    trigger = FileTrigger(change.name, column, change.storage.outbox or "", change.schema)
    return definitions.standing(connection, trigger)
