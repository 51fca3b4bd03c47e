"""Telling the observers of managers what a root transaction did to their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granite_storage.observing import StorageChange, tell

if TYPE_CHECKING:
    from granite_storage.orm.changes import Free, Store
    from granite_storage.orm.ledger import Ledger

__all__ = ["tell_observers"]


def tell_observers(ledger: Ledger, *, durable: bool) -> None:
    """A root transaction ended, and how is known; costs next to nothing where nobody observes."""
    taken = [one for one in ledger.freed if one.in_row]  # of others only a row's absence would tell
    changes: tuple[Store | Free, ...] = (*ledger.stored, *taken, *ledger.doomed)
    for manager in dict.fromkeys(change.manager for change in changes if change.manager.observers):
        stored, freed, discarded = (
            tuple(change.ref for change in part if change.manager is manager)
            for part in (ledger.stored, taken, ledger.doomed)
        )
        tell(manager.observers, StorageChange(stored, freed, discarded, durable))
