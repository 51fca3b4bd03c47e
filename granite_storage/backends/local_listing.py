"""Listing the tree below a root in byte order, without following a symbolic link.

What this costs for each file it costs millions of times. So there is one loop for all levels, and the names of a
folder are judged together where all are plain, as ours are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from granite_storage.backends.base import ObjectInfo
from granite_storage.backends.listing import is_listed
from granite_storage.backends.local_tree import DIRECTORY, disk_errors, find_folder
from granite_storage.exceptions import BackendError, ObjectNotFoundError
from granite_storage.locations import MAX_LOCATION_BYTES

__all__ = ["walk"]

_PLAIN = "[A-Za-z0-9_-][A-Za-z0-9._-]*"  # begins with no dot: no mark, nothing reserved
_ALL_PLAIN = re.compile(f"(?:{_PLAIN}/{{1,2}})*{_PLAIN}/?")  # names that are joined by slashes; folders end with one


@dataclass(slots=True)
class _Folder:
    """A folder that is being listed, and what of it is still to come.

    :param above: its location, with a slash at its end; empty for the root.
    :param plain: whether a look at all names told that every one may be listed.
    """

    descriptor: int
    above: str
    names: Iterator[str]
    plain: bool

    @classmethod
    def read(cls, descriptor: int, above: str, root: str) -> _Folder:
        names = []
        with disk_errors(root, above, "listing"), os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    names.append(entry.name + "/")
        # With the slash at a folder's end, the order of names is the order of whole locations: 'a-b' < 'a/b'.
        # Code point order, which Python compares by, is the byte order of UTF-8.
        names.sort()
        longest = len(above.encode(errors="surrogateescape")) + max(map(len, names), default=0)
        plain = longest <= MAX_LOCATION_BYTES and _ALL_PLAIN.fullmatch("/".join(names)) is not None
        return cls(descriptor, above, iter(names), plain)


def walk(root: str, folder: str, start_after: str) -> Iterator[ObjectInfo]:
    """The objects in ``folder`` (empty, or with a slash at its end) after ``start_after``, in byte order.

    One folder's names are held at a time for each level. Links, and names that no ref could hold, are left out.
    """
    try:
        with find_folder(root, folder + "x") as (descriptor, _):
            yield from _walk(descriptor, folder, start_after, root)
    except ObjectNotFoundError:
        return


def _walk(descriptor: int, above: str, start_after: str, root: str) -> Iterator[ObjectInfo]:
    levels = [_Folder.read(descriptor, above, root)]
    try:
        while levels:
            level = levels[-1]
            descriptor, above, plain = level.descriptor, level.above, level.plain
            for name in level.names:
                location = above + name
                if not plain and not is_listed(location.rstrip("/"), above):
                    continue
                if name[-1] == "/":
                    if location > start_after or start_after.startswith(location):
                        inner = _open_inner(descriptor, name[:-1], location, root)
                        if inner is not None:
                            levels.append(_Folder(inner, location, iter(()), plain=True))
                            levels[-1] = _Folder.read(inner, location, root)
                            break
                elif location > start_after:
                    try:
                        found = os.lstat(name, dir_fd=descriptor)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISREG(found.st_mode):
                        yield ObjectInfo(location, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
            else:
                levels.pop()
                if levels:  # the outermost is the caller's
                    os.close(descriptor)
    finally:
        for level in levels[1:]:
            os.close(level.descriptor)


def _open_inner(descriptor: int, name: str, location: str, root: str) -> int | None:
    try:
        return os.open(name, DIRECTORY, dir_fd=descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None  # gone since, or something else now
    except OSError as error:
        raise BackendError(f"listing {location!r} below {root!r} failed: {error.strerror}") from error
