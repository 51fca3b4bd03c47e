"""A group of puts into one root: its folders are opened once, and synced once, when it ends.

::

    begins       put: .incoming and docs/2024/ are opened      put      put      ends
    (nothing     put: its file is synced, and linked           ...      ...      docs/2024/ is synced,
     is open)         into docs/2024/                                            all is closed

A file is synced by its own put, before it gets its name; only the folder's sync, which makes the *name* durable, waits.
A put by itself joins a group that has ended already: that syncs at once, and closes what it opened.

The group travels in a context variable, so that it reaches threads that run in a copy of the caller's context, and
nobody else's puts.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from granite_storage.backends.local_tree import disk_errors, make_folder, open_incoming
from granite_storage.locations import INCOMING

__all__ = ["MAX_FOLDERS", "PutGroup", "join_group", "put_group"]

MAX_FOLDERS = 64
"""How many folders a group keeps open; a put into a further one is a put by itself."""

_groups: ContextVar[tuple[PutGroup, ...]] = ContextVar("granite_storage.backends.local_group", default=())


@contextmanager
def put_group(root: str, *, fsync: bool) -> Iterator[None]:
    """Have the puts of the ``with`` block into ``root``, and of threads in a copy of its context, share their folders.

    :raises BackendError: at its end, if a folder cannot be synced; then none of its puts can be relied on.
    """
    group = PutGroup(root, fsync=fsync)
    before = _groups.set((*_groups.get(), group))
    try:
        yield
        group.end()
    finally:
        _groups.reset(before)
        group.end(sync=False)  # nothing happens if it has ended
        group.leave()


def join_group(root: str, location: str, *, fsync: bool) -> PutGroup:
    """The group that a put into ``root`` is part of, joined: the put has to leave it."""
    for group in reversed(_groups.get()):
        if group.root == root and group.fsync == fsync and group.join(location):
            return group
    alone = PutGroup(root, fsync=fsync)
    alone.end(sync=False)
    return alone


class PutGroup:
    """The open folders of a group. They are closed once it has ended and the last put has left it.

    :param fsync: whether folders are synced.
    """

    def __init__(self, root: str, *, fsync: bool) -> None:
        self.root = root
        self.fsync = fsync
        self._lock = threading.Lock()
        self._folders: dict[str, int] = {}
        self._gone: list[int] = []
        self._unsynced: dict[int, str] = {}
        self._inside = 1  # who began it is the first
        self._ended = False
        self._names = map(f"{os.urandom(16).hex()}-{{}}".format, itertools.count())

    def join(self, location: str) -> bool:
        """Take part with a put; False if the group has ended, or has as many folders as it may keep open."""
        with self._lock:
            if self._ended or (len(self._folders) >= MAX_FOLDERS and _folder_of(location) not in self._folders):
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Take part no longer."""
        with self._lock:
            self._inside -= 1
            closing = [] if self._inside else [*self._folders.values(), *self._gone]
        for folder in closing:
            with suppress(OSError):
                os.close(folder)

    def end(self, *, sync: bool = True) -> None:
        """Sync what is not synced yet; a put that is still under way syncs by itself.

        :raises BackendError: if a folder cannot be synced.
        """
        with self._lock:
            unsynced = {} if self._ended or not sync else self._unsynced
            self._ended = True
        for folder, location in unsynced.items():
            with disk_errors(self.root, location, "syncing the folder of"):
                os.fsync(folder)

    def temporary_name(self) -> str:
        """A fresh name below ``.incoming``."""
        return next(self._names)

    def incoming(self) -> int:
        """The folder ``.incoming`` as a descriptor, made if it is missing; raises BackendError."""
        folder = self._folders.get(INCOMING)
        if folder is None:
            with self._lock, disk_errors(self.root, INCOMING, "opening"):
                folder = self._folders.get(INCOMING)
                if folder is None:
                    folder = self._folders[INCOMING] = open_incoming(self.root)
        return folder

    def folder(self, location: str) -> int:
        """The folder of a location as a descriptor; raises what :func:`~.local_tree.make_folder` does."""
        path = _folder_of(location)
        folder = self._folders.get(path)
        if folder is None:
            with self._lock:
                folder = self._folders.get(path)
                if folder is None:
                    folder = self._folders[path] = make_folder(self.root, location, fsync=self.fsync)
        return folder

    def forget(self, folder: int) -> None:
        """A folder was removed since it was opened: the next put opens, or makes, another."""
        with self._lock:
            for path, known in self._folders.items():
                if known == folder:
                    del self._folders[path]
                    self._unsynced.pop(folder, None)  # it was empty, or it could not have been removed
                    self._gone.append(folder)  # other puts may be using it: it is closed with the rest
                    return

    def named(self, folder: int, location: str) -> None:
        """A folder has got a name: sync it, when the group ends or, if it has ended, now; raises OSError."""
        if self.fsync:
            with self._lock:
                if not self._ended:
                    self._unsynced[folder] = location
                    return
            os.fsync(folder)


def _folder_of(location: str) -> str:
    return location.rpartition("/")[0]
