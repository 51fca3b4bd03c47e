"""What the registry notes about a file field: ``op.register_``, ``unregister_`` and ``rebind_file_column``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from alembic_ext.operations.base import FileFieldOp, operation

__all__ = ["RebindFileColumnOp", "RegisterFileColumnOp", "UnregisterFileColumnOp", "checked_objects"]


def checked_objects(objects: str) -> str:
    """What becomes of the objects of a column that goes: ``"free"`` or ``"keep"``."""
    if objects not in ("free", "keep"):
        from granite_storage.exceptions import ConfigurationError

        raise ConfigurationError(
            f"objects={objects!r} says nothing: 'free' writes the objects to the outbox, and a sweep deletes them; "
            "'keep' leaves them in their store"
        )
    return objects


@operation("register_file_column")
@dataclass(eq=False)
class RegisterFileColumnOp(FileFieldOp):
    """Note in the registry that a column is a file field.

    ``op.register_file_column("document", "report", policy="documents")``

    :param objects: what the way back does with the objects, as :class:`UnregisterFileColumnOp` has it.
    """

    table_name: str
    column_name: str
    policy: str | None = field(kw_only=True)
    objects: str = field(default="keep", kw_only=True)

    unwritten = ("outbox", "objects")

    @property
    def in_script(self) -> bool:
        return self.policy is not None  # or it was in no registry, and comes back so

    def reverse(self) -> UnregisterFileColumnOp:
        return UnregisterFileColumnOp(
            self.table_name, self.column_name, objects=self.objects, policy=self.policy, **self._names()
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("register_file_column", self.schema, self.table_name, self.column_name, self.policy)


@operation("unregister_file_column")
@dataclass(eq=False)
class UnregisterFileColumnOp(FileFieldOp):
    """Forget that a column is a file field, and say what becomes of the objects that its rows name.

    ``op.unregister_file_column("document", "report", objects="free")``, before the column or table is dropped

    :param objects: ``"free"`` writes them to the outbox, and a sweep deletes them; ``"keep"`` leaves them in their
        store, where a full gc may find them.
    """

    table_name: str
    column_name: str
    objects: str = field(kw_only=True)
    policy: str | None = field(default=None, kw_only=True)

    unwritten = ("policy",)

    def __post_init__(self) -> None:
        checked_objects(self.objects)

    def reverse(self) -> RegisterFileColumnOp:
        return RegisterFileColumnOp(
            self.table_name, self.column_name, policy=self.policy, objects=self.objects, **self._names()
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("unregister_file_column", self.schema, self.table_name, self.column_name, self.objects)


@operation("rebind_file_column")
@dataclass(eq=False)
class RebindFileColumnOp(FileFieldOp):
    """Note that a file field is bound to another policy.

    ``op.rebind_file_column("document", "report", "documents", "archive")``

    The objects stay where they are: a ref names its backend and its policy, and is read by them.
    """

    table_name: str
    column_name: str
    from_policy: str
    to_policy: str

    unwritten = ("outbox",)

    @property
    def remarks(self) -> tuple[str, ...]:
        of = f"{self.table_name}.{self.column_name}"
        return (
            f"New files of {of} are stored under policy {self.to_policy!r}. Those that are there keep working: keep",
            f"{self.from_policy!r} among the manager's policies. To move them all, while the application runs:",
            f"granite-storage move {shlex.quote(self.from_policy)} --to {shlex.quote(self.to_policy)}",
        )

    def reverse(self) -> RebindFileColumnOp:
        return RebindFileColumnOp(self.table_name, self.column_name, self.to_policy, self.from_policy, **self._names())

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("rebind_file_column", self.schema, self.table_name, self.column_name, self.from_policy, self.to_policy)
