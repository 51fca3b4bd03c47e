"""What the operations on file fields share: names that may be others than the usual, and how they are registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from alembic.operations import MigrateOperation, Operations

__all__ = ["OUTBOX", "REGISTRY", "FileFieldOp", "operation"]

REGISTRY = "granite_storage_fields"
"""The registry's name unless ``metadata_options(registry=...)`` says otherwise; fixed, for scripts rely on it."""

OUTBOX = "granite_storage_outbox"
"""The outbox's name unless ``metadata_options(outbox=...)`` says otherwise; fixed, for scripts rely on it."""

_Op = TypeVar("_Op", bound="FileFieldOp")


@dataclass(eq=False, kw_only=True)
class FileFieldOp(MigrateOperation):
    """An operation on one file field.

    :param schema: the schema of the table; None for the default.
    :param registry: the name of the registry.
    :param outbox: the name of the outbox.
    :param storage_schema: the schema of registry and outbox, which is their MetaData's; None for the default.
    """

    schema: str | None = None
    registry: str = REGISTRY
    outbox: str | None = OUTBOX
    storage_schema: str | None = None

    name: ClassVar[str]
    """What it is called in a script, behind ``op.``."""

    unwritten: ClassVar[tuple[str, ...]] = ()
    """Fields that are for the way back only, and are not in the script."""

    @classmethod
    def run(cls, operations: Operations, *args: Any, **options: Any) -> Any:
        return operations.invoke(cls(*args, **options))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the script says about it, one line each."""
        return ()

    @property
    def in_script(self) -> bool:
        """Whether it is in the script at all; not if it only is the other side of one that is."""
        return True

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` says about it."""
        raise NotImplementedError

    def _names(self) -> dict[str, Any]:
        """The names that the way back shares."""
        return {
            "schema": self.schema,
            "registry": self.registry,
            "outbox": self.outbox,
            "storage_schema": self.storage_schema,
        }


def operation(name: str) -> Callable[[type[_Op]], type[_Op]]:
    """Let an operation be called in scripts: ``op.<name>(...)``, with the fields of its class as arguments."""

    def register(op_class: type[_Op]) -> type[_Op]:
        op_class.name = name
        Operations.register_operation(name, "run")(op_class)
        return op_class

    return register
