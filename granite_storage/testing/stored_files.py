"""What a test did to files: the object that the fixture ``stored_files`` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.files import StoredFile
from granite_storage.manager import StorageManager
from granite_storage.observing import StorageChange
from granite_storage.refs import StoredObjectRef

__all__ = ["StoredFiles", "WatchedBackend"]


class WatchedBackend(MemoryStorageBackend):
    """A backend in memory that tells of each object that is deleted from it."""

    def __init__(self) -> None:
        super().__init__()
        self.on_delete: Callable[[StoredObjectRef], object] = lambda ref: None

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none."""
        there = self.exists(ref)
        super().delete(ref)
        if there:
            self.on_delete(ref)


class StoredFiles:
    """What became of files since the fixture began; refs in the order in which it happened.

    On a session whose transaction is inside another one (rolled back after each test), commits of the session count,
    and its rollbacks: ``freed`` has what would be deleted if the outer transaction were to commit.
    """

    stored: list[StoredObjectRef]
    """What committed transactions stored, and what the manager stored by itself (``manager.store``)."""
    freed: list[StoredObjectRef]
    """What committed rows stopped naming: cleared, replaced or deleted."""
    discarded: list[StoredObjectRef]
    """What was stored in a transaction, or savepoint, that was rolled back."""
    deleted: list[StoredObjectRef]
    """What was deleted from storage, by whomever: at a transaction's end, by a sweep, by ``manager.delete``."""

    def __init__(self, manager: StorageManager) -> None:
        self.manager = manager
        self.stored, self.freed, self.discarded, self.deleted = [], [], [], []

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Take note for the length of a ``with`` block."""
        watched = [one for one in self.manager.backends.values() if isinstance(one, WatchedBackend)]
        for backend in watched:
            backend.on_delete = self._note_deleted
        self.manager.observers.append(self._note)
        try:
            yield self
        finally:
            self.manager.observers.remove(self._note)

    def objects(self, backend: str | None = None) -> list[str]:
        """The locations of all objects that exist now, sorted; of one backend if its name is given."""
        chosen = self.manager.backends.values() if backend is None else [self.manager.backends[backend]]
        return sorted(location for one in chosen for location in one.iter_locations())

    def read(self, file: StoredObjectRef | StoredFile) -> bytes:
        """The whole content of an object.

        :raises ObjectNotFoundError: if it was deleted.
        """
        return self.manager.get(file.ref if isinstance(file, StoredFile) else file)

    def clear(self) -> None:
        """Forget what happened until now, such as what fixtures stored; the objects stay."""
        for refs in (self.stored, self.freed, self.discarded, self.deleted):
            refs.clear()

    def __repr__(self) -> str:
        counts = (f"{name}: {len(getattr(self, name))}" for name in ("stored", "freed", "discarded", "deleted"))
        return f"<StoredFiles {', '.join(counts)}>"

    def _note(self, change: StorageChange) -> None:
        self.stored += change.stored
        self.freed += change.freed
        self.discarded += change.discarded

    def _note_deleted(self, ref: StoredObjectRef) -> None:
        # An outbox row tells less of an object than the ref that was in the row.
        known = (*self.stored, *self.freed, *self.discarded)
        self.deleted.append(next((one for one in known if one.location == ref.location), ref))
