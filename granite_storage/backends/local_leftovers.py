"""What unfinished puts left below a root, and the empty folders of days that are over.

::

    .incoming/8f3a...          a file that nobody has written to since ``before``: its put was cut off
    docs/2024/03/09            an empty folder whose day ended before that of ``before``; then docs/2024/03, docs/2024

Nothing else is touched: links are neither followed nor removed, and folders go by ``rmdir`` alone, which takes none
that holds anything. A put that meets a folder's removal makes the folder anew.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from granite_storage.backends.local_tree import disk_errors, find_folder
from granite_storage.exceptions import InvalidLocationError
from granite_storage.locations import INCOMING, check_location

__all__ = ["remove_empty_folders", "remove_unfinished"]

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_DATED = re.compile(r".+/(?P<date>[0-9]{4}(?:/(?:0[1-9]|1[0-2])(?P<day>/(?:0[1-9]|[12][0-9]|3[01]))?)?)")
_NOT_OURS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}  # gone, or something else now; or lost+found
_STAYS = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY}  # used again, gone already, or a mount point


def remove_unfinished(root: str, before: datetime, *, dry_run: bool) -> int:
    """Remove the files in ``.incoming`` that were last written to before ``before``; gives how many.

    :raises BackendError: if the disk fails, or ``.incoming`` is a symbolic link.
    """
    count, limit = 0, before.timestamp()
    with (
        find_folder(root, "x") as (top, _),
        disk_errors(root, INCOMING, "clearing"),
        suppress(FileNotFoundError),
        _opened(INCOMING, top) as incoming,
    ):
        for name in os.listdir(incoming):
            with suppress(FileNotFoundError):  # its put has ended meanwhile
                found = os.stat(name, dir_fd=incoming, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_mtime < limit:
                    if not dry_run:
                        os.unlink(name, dir_fd=incoming)
                    count += 1
    return count


def remove_empty_folders(root: str, before: datetime, prefixes: Collection[str] | None = None, *, dry_run: bool) -> int:
    """Remove the empty folders of days, months and years that ended before the day (UTC) of ``before``; gives how many.

    No day's folder is read beyond its first entry: the cost follows the number of days, not that of the objects.

    :param prefixes: only those in these folders; by default in all.
    :raises BackendError: if the disk fails.
    """
    day = before.astimezone(UTC).date().isoformat().replace("-", "/")
    with find_folder(root, "x") as (top, _):
        return _Emptying(root, day, prefixes, dry_run=dry_run).below(top, "")[0]


class _Emptying:
    """Removing from the leaves up. ``day`` is as it stands in locations: ``2024/03/09``."""

    def __init__(self, root: str, day: str, prefixes: Collection[str] | None, *, dry_run: bool) -> None:
        self._root = root
        self._day = day
        self._prefixes = None if prefixes is None else [prefix.strip("/") + "/" for prefix in prefixes]
        self._dry_run = dry_run

    def below(self, folder: int, above: str) -> tuple[int, bool]:
        """Remove what may go below ``folder``; gives how many folders went, and whether anything is left in it."""
        count = 0
        with disk_errors(self._root, above, "looking for empty folders in"):
            names, left = _entries(folder)
            for name in names:
                below, stays = self._folder(folder, name, above + name)
                count += below
                left = left or stays
        return count, left

    def _folder(self, above: int, name: str, path: str) -> tuple[int, bool]:
        """Remove a folder with what may go below it; gives how many went, and whether it stays itself."""
        if not _can_hold_objects(path) or not self._is_on_the_way(path + "/"):
            return 0, True
        dated = _DATED.fullmatch(path)
        over = dated is not None and dated["date"] < self._day[: len(dated["date"])]
        is_day = dated is not None and dated["day"] is not None
        if is_day and not over:
            return 0, True
        try:
            with _opened(name, above) as folder:
                count, left = (0, _holds_anything(folder)) if is_day else self.below(folder, path + "/")
        except OSError as error:
            if error.errno in _NOT_OURS:
                return 0, True
            raise
        if left or not over:
            return count, True
        if not self._dry_run:
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno not in _STAYS:
                    raise
                return count, True
        return count + 1, False

    def _is_on_the_way(self, folder: str) -> bool:
        """Whether a folder is in one of the prefixes, or above one."""
        if self._prefixes is None:
            return True
        return any(folder.startswith(prefix) or prefix.startswith(folder) for prefix in self._prefixes)


@contextmanager
def _opened(name: str, above: int) -> Iterator[int]:
    folder = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        yield folder
    finally:
        os.close(folder)


def _entries(folder: int) -> tuple[list[str], bool]:
    """The folders in a folder, and whether there is anything else in it."""
    names, others = [], False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            else:
                others = True
    return names, others


def _holds_anything(folder: int) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is not None


def _can_hold_objects(path: str) -> bool:
    try:
        check_location(path)
    except InvalidLocationError:
        return False  # .incoming itself, or deeper than any location
    return True
