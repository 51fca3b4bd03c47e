"""INSERTs that meet rows which are there already: which are refused, and which may leave rows unwritten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.sql.visitors import iterate

from granite_storage.exceptions import BulkStatementError
from granite_storage.orm.fields import FileField, field_of
from granite_storage.orm.triggers import triggers_stand

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.orm.bulk_target import Target

__all__ = ["check_conflict", "may_skip_rows"]


def may_skip_rows(target: Target) -> bool:
    """Whether the INSERT may not write every row that it is given: ``ON CONFLICT``, ``INSERT IGNORE`` and the like."""
    statement: Any = target.statement
    return statement._post_values_clause is not None or bool(statement._prefixes)


def check_conflict(target: Target) -> None:
    """Refuse an INSERT that takes objects out of rows which only the database itself can know.

    :raises BulkStatementError: naming the field and the remedy.
    """
    for field in _updated(target):
        if not triggers_stand(target.connection(), field.column):
            raise BulkStatementError(
                f"{target}: its DO UPDATE sets file field {field.home} in a row that may hold an object already, which "
                "nobody but the database itself would know of; declare the field with a trigger: "
                "FileColumn(..., trigger=True), with its triggers in the database, or leave it out of set_"
            )
    if _replaces(target):
        for column in target.table.columns:
            field_ = field_of(column)
            if field_ is not None and not _sees_replaced(target.connection(), field_):
                raise BulkStatementError(
                    f"{target}: REPLACE deletes the row that is there, and with it what file field {field_.home} "
                    "holds, which nobody but the database itself would know of; declare the field with a trigger: "
                    "FileColumn(..., trigger=True), with its triggers in the database (and on SQLite PRAGMA "
                    "recursive_triggers = ON on each connection), or use on_conflict_do_update()"
                )


def _updated(target: Target) -> Iterator[FileField]:
    """The file fields that ``ON CONFLICT DO UPDATE`` or ``ON DUPLICATE KEY UPDATE`` sets."""
    statement: Any = target.statement
    clause = statement._post_values_clause
    for part in () if clause is None else iterate(clause):
        assigned = getattr(part, "update_values_to_set", None) or getattr(part, "update", None)
        for key in dict(assigned) if isinstance(assigned, (dict, list)) else ():
            field = target.field(key)
            if field is not None:
                yield field


def _sees_replaced(connection: Connection, field: FileField) -> bool:
    """Whether triggers fire for the row that REPLACE deletes."""
    if not triggers_stand(connection, field.column):
        return False
    return connection.dialect.name != "sqlite" or bool(connection.scalar(text("PRAGMA recursive_triggers")))


def _replaces(target: Target) -> bool:
    statement: Any = target.statement
    return any("REPLACE" in str(prefix).upper() for prefix, _ in statement._prefixes)
