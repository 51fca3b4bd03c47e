"""The storage manager of a migration: given to the operation, to env.py, or attached to the models."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

    from alembic_ext.operations.conversions import FileConversionOp
    from granite_storage.manager import StorageManager

__all__ = ["OPTION", "manager_for"]

OPTION = "granite_storage_manager"
"""The option of ``context.configure()`` in env.py."""


def manager_for(context: MigrationContext, op: FileConversionOp) -> StorageManager:
    """The manager that an operation stores with.

    :raises ConfigurationError: if there is none, saying every way to give one; or if what was given is none.
    """
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.orm.home import MANAGER_KEY

    given = op.manager if op.manager is not None else context.opts.get(OPTION)
    if given is not None:
        return _resolved(given)
    models = context.opts.get("target_metadata")
    metadatas = list(models) if isinstance(models, (list, tuple)) else [models]
    full = f"{op.schema}.{op.table_name}" if op.schema else op.table_name
    metadatas.sort(key=lambda one: full not in getattr(one, "tables", ()))
    for metadata in metadatas:
        manager: StorageManager | None = getattr(metadata, "info", {}).get(MANAGER_KEY)
        if manager is not None:
            return manager
    raise ConfigurationError(
        f"op.{op.name}({op.table_name!r}, ...) finds no storage manager; give it one in any of these ways:",
        [
            "op." + op.name + '(..., manager="package.module:manager"), or the manager itself',
            f"in env.py, context.configure(..., {OPTION}=manager)",
            "in env.py, import the module that calls manager.attach(Base), where target_metadata is Base.metadata",
        ],
    )


def _resolved(given: Any) -> StorageManager:
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.manager import StorageManager

    found = given
    if isinstance(given, str):
        try:
            found = resolve_name(given)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"{given!r} leads to no storage manager ({error}); it is written 'package.module:manager'"
            ) from error
    if not isinstance(found, StorageManager):
        raise ConfigurationError(f"{given!r} is no StorageManager, but {type(found).__name__}")
    return found
