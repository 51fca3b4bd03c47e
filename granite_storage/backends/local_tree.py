"""Walking the tree below a root without ever following a symbolic link.

Every segment is opened relative to the one before it (``dir_fd``) with ``O_NOFOLLOW``, so neither a link that is
there nor one that is put there meanwhile leads out of the root. The root itself may be reached through links: it is the
operator's choice.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from granite_storage.backends.base import ObjectInfo
from granite_storage.exceptions import BackendError, InvalidLocationError, ObjectExistsError, ObjectNotFoundError
from granite_storage.locations import INCOMING, check_location

__all__ = ["disk_errors", "find_folder", "info", "make_folder", "open_file", "open_incoming", "info_of"]

DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that somebody made here must not hang the reader.
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC
_ROOT = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | os.O_CLOEXEC
_FOLDER_MODE = 0o750


class disk_errors:  # noqa: N801 - used as a function, in a with statement
    """Turn the operating system's errors into ours, the cause chained."""

    __slots__ = ("_about",)

    def __init__(self, root: str, location: str, doing: str) -> None:
        self._about = root, location, doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            root, location, doing = self._about
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidLocationError(
                    f"location {location[:80]!r}... has a segment that is longer than the file system at {root!r} takes"
                ) from error
            raise BackendError(f"{doing} {location!r} below {root!r} failed: {error.strerror or error}") from error


@contextmanager
def find_folder(root: str, location: str) -> Iterator[tuple[int, str]]:
    """The folder of a location as a descriptor, and the location's last segment.

    :raises ObjectNotFoundError: if there is no such folder.
    :raises BackendError: if a segment of it is a symbolic link.
    """
    *folders, name = check_location(location).split("/")
    folder = _open_root(root)
    try:
        for segment in folders:
            try:
                inner = os.open(segment, DIRECTORY, dir_fd=folder)
            except OSError as error:
                _refuse_link(folder, segment, root, location)
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                    raise _missing(root, location) from error
                raise BackendError(f"reaching {location!r} below {root!r} failed: {error.strerror}") from error
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


def make_folder(root: str, location: str, *, fsync: bool) -> int:
    """The folder of a location as a descriptor; folders that are missing are made, each synced into the one above it.

    :raises ObjectExistsError: if a segment of the folder is an object.
    :raises BackendError: if a segment of it is a symbolic link, or cannot be made.
    """
    *folders, _ = check_location(location).split("/")
    folder = _open_root(root)
    try:
        for segment in folders:
            with disk_errors(root, location, "making the folder of"):
                inner = _enter(folder, segment, root, location, fsync=fsync)
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def open_incoming(root: str) -> int:
    """The folder ``.incoming`` as a descriptor, made if it is missing; raises OSError."""
    path = os.path.join(root, INCOMING)
    try:
        return os.open(path, DIRECTORY)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return os.open(path, DIRECTORY)


def _enter(folder: int, segment: str, root: str, location: str, *, fsync: bool) -> int:
    try:
        return os.open(segment, DIRECTORY, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        _refuse_link(folder, segment, root, location)
        if error.errno == errno.ENOTDIR:
            raise ObjectExistsError(f"location {location!r} lies below an object; choose another") from error
        raise
    with suppress(FileExistsError):  # somebody else made it meanwhile, and may not have synced it yet
        os.mkdir(segment, _FOLDER_MODE, dir_fd=folder)
    if fsync:
        os.fsync(folder)
    return os.open(segment, DIRECTORY, dir_fd=folder)


def open_file(root: str, location: str) -> int:
    """Open an object for reading, as a descriptor.

    :raises ObjectNotFoundError: if there is no regular file.
    :raises BackendError: if it, or a folder of it, is a symbolic link.
    """
    with find_folder(root, location) as (folder, name):
        try:
            file = os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            _refuse_link(folder, name, root, location)
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
                raise _missing(root, location) from error
            raise BackendError(f"opening {location!r} below {root!r} failed: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _missing(root, location)
    return file


def info(root: str, location: str) -> ObjectInfo:
    """Size and time of an object; raises what :func:`open_file` does."""
    with find_folder(root, location) as (folder, name):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise _missing(root, location) from error
            raise BackendError(f"looking at {location!r} below {root!r} failed: {error.strerror}") from error
        if stat.S_ISLNK(found.st_mode):
            _refuse_link(folder, name, root, location)
        if not stat.S_ISREG(found.st_mode):
            raise _missing(root, location)
    return info_of(location, found)


def _open_root(root: str) -> int:
    try:
        return os.open(root, _ROOT)
    except OSError as error:
        raise BackendError(f"the root {root!r} cannot be opened: {error.strerror}; is its disk mounted?") from error


def _refuse_link(folder: int, segment: str, root: str, location: str) -> None:
    try:
        found = os.stat(segment, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise BackendError(
            f"{segment!r} in {location!r} below {root!r} is a symbolic link, and none is followed below a root; "
            "give what it points to a backend of its own"
        )


def _missing(root: str, location: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"no object is at {location[:200]!r} below {root!r}")


def info_of(location: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(location, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
