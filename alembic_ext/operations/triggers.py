"""The triggers of a file column: ``op.create_file_triggers`` and ``op.drop_file_triggers``.

The script names them; the statements are made when it runs, by the version of the library that runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alembic_ext.operations.base import FileFieldOp, operation

__all__ = ["CreateFileTriggersOp", "DropFileTriggersOp"]


@operation("create_file_triggers")
@dataclass(eq=False)
class CreateFileTriggersOp(FileFieldOp):
    """Make the triggers of a file column, which write what it frees to the outbox; or make them anew.

    ``op.create_file_triggers("document", "report")``, after the outbox and the column are there

    :param why: what the script says about it.
    :param kept: whether they were there before, so that the way back leaves them. Where the way up or the way back
        loses them, as a batch on SQLite does, there is one such operation on each side of what loses them, and only
        the one behind it is ``told`` in the script.
    """

    table_name: str
    column_name: str
    why: str = field(default="", kw_only=True)
    kept: bool = field(default=False, kw_only=True)
    told: bool = field(default=True, kw_only=True)

    unwritten = ("why", "kept", "told")

    @property
    def in_script(self) -> bool:
        return self.told

    @property
    def remarks(self) -> tuple[str, ...]:
        return (self.why,) if self.why else ()

    def reverse(self) -> CreateFileTriggersOp | DropFileTriggersOp:
        if self.kept:
            return CreateFileTriggersOp(
                self.table_name, self.column_name, why=self.why, kept=True, told=not self.told, **self._names()
            )
        return DropFileTriggersOp(self.table_name, self.column_name, **self._names())

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("create_file_triggers", self.schema, self.table_name, self.column_name)


@operation("drop_file_triggers")
@dataclass(eq=False)
class DropFileTriggersOp(FileFieldOp):
    """Drop the triggers of a file column, if they are there: before the column is dropped, renamed or changes its type.

    ``op.drop_file_triggers("document", "report")``
    """

    table_name: str
    column_name: str

    def reverse(self) -> CreateFileTriggersOp:
        return CreateFileTriggersOp(self.table_name, self.column_name, **self._names())

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("drop_file_triggers", self.schema, self.table_name, self.column_name)
