"""Marking: a database notes at the prefix of a policy that its rows name objects there, once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site

__all__ = ["mark"]


def mark(manager: StorageManager, policy: str, site: Site, database: Callable[[], str | None]) -> None:
    """Put a database's mark at a policy's prefix, if this process has not seen it there.

    :param database: gives the database's id; None if it has none yet, and then nothing is marked.
    """
    slot = manager.get_policy(policy)
    backend = manager.get_backend_for_policy(slot)
    if manager.ownership.knows(backend, slot.prefix, site):
        return
    found = database()
    if found is not None:
        off_loop(manager.pool, partial(manager.ownership.mark, backend, slot, found))
        manager.ownership.note(backend, slot.prefix, site)
