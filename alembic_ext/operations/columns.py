"""File columns as a whole: ``op.add_file_column``, ``drop_file_column`` and ``rename_file_column``.

Autogenerate writes the parts of the first two one by one, and the third as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alembic_ext.operations.base import FileFieldOp, operation
from alembic_ext.operations.fields import checked_objects

if TYPE_CHECKING:
    from sqlalchemy import Column

__all__ = ["AddFileColumnOp", "DropFileColumnOp", "RenameFileColumnOp"]


@dataclass(eq=False, kw_only=True)
class _FileColumnOp(FileFieldOp):
    """What belongs to a file column."""

    location_index: bool = True
    indexes: Sequence[str] = ()
    triggers: bool = False

    def __post_init__(self) -> None:
        from granite_storage.orm.member_index import checked_members

        self.indexes = checked_members(f"op.{self.name}()", self.indexes)

    @property
    def indexed(self) -> tuple[str, ...]:
        """All members that have an index."""
        return (*(("location",) if self.location_index else ()), *self.indexes)

    def _belongings(self) -> dict[str, Any]:
        """What the way back shares."""
        return {
            "location_index": self.location_index,
            "indexes": self.indexes,
            "triggers": self.triggers,
            **self._names(),
        }


@operation("add_file_column")
@dataclass(eq=False)
class AddFileColumnOp(_FileColumnOp):
    """Add a file column, its indexes, its row in the registry and, if asked for, its triggers.

    ``op.add_file_column("document", sa.Column("report", portable_storage_ref_type()), policy="documents")``

    :param location_index: whether it is to have a location index.
    :param indexes: the further members that are to have an index, such as ``["size"]``.
    :param triggers: whether it is to have triggers.
    """

    table_name: str
    column: Column[Any]
    policy: str = field(kw_only=True)

    def reverse(self) -> DropFileColumnOp:
        return DropFileColumnOp(
            self.table_name,
            str(self.column.name),
            column=self.column,
            policy=self.policy,
            **self._belongings(),
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("add_file_column", self.schema, self.table_name, self.column, self.policy)


@operation("drop_file_column")
@dataclass(eq=False)
class DropFileColumnOp(_FileColumnOp):
    """Drop a file column with its triggers, its row in the registry and its indexes.

    ``op.drop_file_column("document", "report")``

    :param objects: ``"free"`` writes its objects to the outbox first, and a sweep deletes them; ``"keep"`` leaves them
        in their store.
    :param location_index: whether it has a location index.
    :param indexes: the further members that have an index, such as ``["size"]``.
    """

    table_name: str
    column_name: str
    objects: str = field(default="free", kw_only=True)
    column: Column[Any] | None = field(default=None, kw_only=True)
    policy: str | None = field(default=None, kw_only=True)

    unwritten = ("column", "policy", "triggers")

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_objects(self.objects)

    def reverse(self) -> AddFileColumnOp:
        if self.column is None or self.policy is None:
            raise ValueError("the column and its policy are not known; operation is not reversible")
        return AddFileColumnOp(
            self.table_name,
            self.column,
            policy=self.policy,
            **self._belongings(),
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("drop_file_column", self.schema, self.table_name, self.column_name, self.objects)


@operation("rename_file_column")
@dataclass(eq=False)
class RenameFileColumnOp(_FileColumnOp):
    """Rename a file column; its indexes, its row in the registry and its triggers follow.

    ``op.rename_file_column("document", "report", "paper", policy="documents")``

    :param location_index: whether it has a location index.
    :param indexes: the further members that have an index, such as ``["size"]``.
    :param triggers: whether it has triggers.
    :param guessed: whether autogenerate took a dropped field and an added one for it.
    """

    table_name: str
    old_name: str
    new_name: str
    policy: str = field(kw_only=True)
    guessed: bool = field(default=False, kw_only=True)

    unwritten = ("guessed",)

    @property
    def remarks(self) -> tuple[str, ...]:
        if not self.guessed:
            return ()
        return (
            f"Taken for a rename: {self.table_name}.{self.old_name} is gone and {self.new_name} is new, both of policy",
            f"{self.policy!r}. If it is none, write op.drop_file_column() and op.add_file_column() instead.",
        )

    def reverse(self) -> RenameFileColumnOp:
        return RenameFileColumnOp(
            self.table_name,
            self.new_name,
            self.old_name,
            policy=self.policy,
            **self._belongings(),
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("rename_file_column", self.schema, self.table_name, self.old_name, self.new_name)
