"""What unfinished uploads left at backends: temporary files, empty day folders, multipart uploads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, LeftoversBackend, has_ability
from granite_storage.exceptions import StorageError
from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from datetime import datetime

    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy

__all__ = ["remove_leftovers"]

_log = logging.getLogger("granite_storage")


def remove_leftovers(
    manager: StorageManager, policies: Sequence[StoragePolicy], before: datetime, *, dry_run: bool
) -> tuple[int, int]:
    """Remove what was left below policies' prefixes before an instant; a failing backend is logged as a warning.

    :returns: how many were removed, and at how many backends that failed.
    """
    removed = failed = 0
    for key in manager.one_name_each(policy.backend_key for policy in policies):
        backend = manager.backends[key]
        prefixes = [policy.prefix for policy in policies if manager.same_store(policy.backend_key, key)]
        if has_ability(backend, Ability.LEFTOVERS):
            cleaner = cast("LeftoversBackend", backend)
            try:
                removed += off_loop(
                    manager.pool,
                    lambda: cleaner.remove_leftovers(before, prefixes=prefixes, dry_run=dry_run),  # noqa: B023
                )
            except StorageError as error:
                failed += 1
                _log.warning("leftovers of backend %r were not removed: %s", key, error)
    return removed, failed
