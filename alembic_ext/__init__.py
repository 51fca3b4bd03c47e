"""Alembic support: ``alembic revision --autogenerate`` knows file fields.

Nothing has to be set up. Alembic 1.18 and later find this module through the entry point
``alembic.autogenerate.granite_storage`` (group ``alembic.plugins``) and call :func:`setup`; by that name it can be
switched off, too: ``context.configure(..., autogenerate_plugins=["alembic.autogenerate.*",
"~alembic.autogenerate.granite_storage"])``. Earlier ones have no plugins: there ``granite_storage.orm`` calls
:func:`register` when Alembic was imported before it, as it is in every env.py.

A plugin is loaded half-way through ``import alembic``, so this module imports nothing of Alembic, nor of
granite_storage, before it is asked to compare.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from alembic.runtime.plugins import Plugin

__all__ = ["register", "setup"]


def setup(plugin: Plugin) -> None:
    """What Alembic's plugin loader (1.18 and later) calls."""
    from alembic.util import DispatchPriority

    import alembic_ext.operations  # noqa: F401 - registers them

    plugin.add_autogenerate_comparator(_foresee, "schema", "granite_storage.foresee", priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(_refine, "schema", "granite_storage", priority=DispatchPriority.LAST)


@cache
def register() -> None:
    """Take part in autogenerate on an Alembic that has no plugins (before 1.18); on a later one nothing happens.

    Only a program that imports its models before Alembic has to call it, in its env.py.
    """
    try:
        import alembic.runtime.plugins  # noqa: F401
    except ImportError:
        with suppress(ImportError):  # something else is named alembic, such as a project's own folder
            from alembic.autogenerate import comparators

            import alembic_ext.operations  # noqa: F401 - registers them

            comparators.dispatch_for("schema")(_refine)


def _foresee(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> Any:
    from alembic.util import PriorityDispatchResult

    from alembic_ext.compare.foreseen_warnings import ignore_foreseen_warnings

    ignore_foreseen_warnings(context)
    return PriorityDispatchResult.CONTINUE


def _refine(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> Any:
    import alembic.util

    from alembic_ext.compare import refine

    refine(context, upgrade_ops, schemas)
    result = getattr(alembic.util, "PriorityDispatchResult", None)
    return None if result is None else result.CONTINUE


class _PluginModule(ModuleType):
    """This module's class: Alembic 1.18.0 to 1.20.0 iterate what the entry point loads."""

    def __iter__(self) -> Iterator[ModuleType]:
        yield self


sys.modules[__name__].__class__ = _PluginModule
