"""A table with file columns that is renamed: ``op.rename_file_table``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic_ext.operations.base import FileFieldOp, operation

__all__ = ["RenameFileTableOp"]


@operation("rename_file_table")
@dataclass(eq=False)
class RenameFileTableOp(FileFieldOp):
    """Rename a table; the indexes, rows in the registry and triggers of its file columns follow.

    ``op.rename_file_table("document", "paper", columns={"report": "documents"})``, instead of ``op.rename_table`` or,
    with ``rename_table=False``, after it; ``present_name="document"`` where a later ``op.rename_table`` renames it, as
    on the way back

    :param columns: the file columns, and the policy of each.
    :param location_indexes: those of them that have a location index; by default all.
    :param indexes: the further members of them that have an index, such as ``{"report": ["size"]}``.
    :param triggers: those of them that have triggers.
    :param rename_table: whether the table itself is to be renamed; not if another operation renames it.
    :param present_name: the name that a table has which is not to be renamed; by default the new one.
    """

    old_name: str
    new_name: str
    columns: dict[str, str] = field(kw_only=True)
    location_indexes: Sequence[str] | None = field(default=None, kw_only=True)
    indexes: Mapping[str, Sequence[str]] | None = field(default=None, kw_only=True)
    triggers: Sequence[str] = field(default=(), kw_only=True)
    rename_table: bool = field(default=True, kw_only=True)
    present_name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        from granite_storage.orm.member_index import checked_members

        if self.indexes is not None:
            name = f"op.{self.name}()"
            self.indexes = {column: checked_members(name, members) for column, members in self.indexes.items()}
        unknown = {*(self.location_indexes or ()), *(self.indexes or {}), *self.triggers} - self.columns.keys()
        if unknown or self.present_name not in (None, self.old_name, self.new_name):
            from granite_storage.exceptions import ConfigurationError

            raise ConfigurationError(
                f"rename of {self.old_name!r} to {self.new_name!r}: location_indexes, indexes and triggers name "
                f"columns of columns={self.columns!r}, and present_name is one of the two names; wrong is "
                f"{', '.join(map(repr, sorted(unknown))) or repr(self.present_name)}"
            )

    @property
    def indexed(self) -> dict[str, tuple[str, ...]]:
        """All members of each column that have an index."""
        located = self.columns if self.location_indexes is None else self.location_indexes
        return {
            column: (*(("location",) if column in located else ()), *(self.indexes or {}).get(column, ()))
            for column in self.columns
        }

    @property
    def index_names(self) -> dict[str, str]:
        """The old names of the indexes that follow, with their new ones."""
        from granite_storage.orm.member_index import member_index_name

        return {
            member_index_name(self.old_name, column, member): member_index_name(self.new_name, column, member)
            for column, members in self.indexed.items()
            for member in members
        }

    def reverse(self) -> RenameFileTableOp:
        present = None if self.rename_table else self.present_name or self.new_name
        return RenameFileTableOp(
            self.new_name,
            self.old_name,
            columns=self.columns,
            location_indexes=self.location_indexes,
            indexes=self.indexes,
            triggers=self.triggers,
            rename_table=self.rename_table,
            present_name=None if present == self.old_name else present,
            **self._names(),
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("rename_file_table", self.schema, self.old_name, self.new_name)
