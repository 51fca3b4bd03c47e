"""The home of a file field: its policy, its column, and through the MetaData its manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granite_storage.exceptions import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData

    from granite_storage.manager import StorageManager

__all__ = ["MANAGER_KEY", "FieldHome"]

MANAGER_KEY = "granite_storage.manager"
"""Where ``MetaData.info`` keeps the manager that was attached."""


class FieldHome:
    """Where the files of one column belong. The column's type and all its dialect copies share one."""

    __slots__ = ("column", "policy")

    def __init__(self, policy: str | None, column: Column[Any] | None = None) -> None:
        self.policy = policy
        self.column = column

    @property
    def metadata(self) -> MetaData | None:
        """The MetaData of the column's table, or None while it is in no table."""
        table = getattr(self.column, "table", None)
        return None if table is None else table.metadata

    @property
    def manager(self) -> StorageManager:
        """The manager that was attached to the MetaData.

        :raises ConfigurationError: if none was, saying how to attach one.
        """
        metadata = self.metadata
        manager: StorageManager | None = None if metadata is None else metadata.info.get(MANAGER_KEY)
        if manager is None:
            raise ConfigurationError(
                f"file field {self} has no manager: call manager.attach(Base) once at start-up, "
                "with the declarative base or MetaData that it belongs to"
            )
        return manager

    def __str__(self) -> str:
        column = self.column
        table = getattr(column, "table", None)
        if column is None or table is None:
            return f"of policy {self.policy!r}"
        return f"{table.fullname}.{column.name}"
