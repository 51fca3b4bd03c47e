"""Publishing a file: written in ``.incoming/``, made durable, and only then given its name.

::

    a new file           write, fsync (:mod:`.local_unpublished`)
          |  link, which never replaces an object
          v
    docs/2024/...        fsync of the folder, or by the end of its group (:mod:`.local_group`)

Whatever goes wrong before the end, an interrupt included, the unpublished file is gone, and so is the object, if
there was one: a put that raises leaves nothing visible.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from granite_storage.backends.local_group import PutGroup, join_group
from granite_storage.backends.local_tree import disk_errors
from granite_storage.backends.local_unpublished import Unpublished, new_file
from granite_storage.exceptions import BackendError, ObjectExistsError, UnassignableError

__all__ = ["copy_file", "copy_stream", "publish"]

_BUFFER = 512 * 1024


def publish(root: str, location: str, fill: Callable[[int], int], *, mode: int, fsync: bool, unnamed: bool) -> int:
    """Make an object of what ``fill`` writes to the descriptor that it is given.

    :param location: one that :func:`~granite_storage.locations.check_location` has passed.
    :param fill: returns how many bytes it wrote; what it raises comes out as it is.
    :param mode: the file's permissions, whatever the umask.
    :param unnamed: whether the file may do without a name until then.
    :returns: what ``fill`` returned.
    :raises ObjectExistsError: if something is at the location already, or its folder lies below an object.
    :raises BackendError: if the disk fails.
    """
    group = join_group(root, location, fsync=fsync)
    try:
        group.folder(location)  # before anything is read: where no object can be, none is written
        with disk_errors(root, location, "storing"):
            unpublished = new_file(group, mode, unnamed=unnamed)
        try:
            written = fill(unpublished.file)
            with disk_errors(root, location, "storing"):
                os.fchmod(unpublished.file, mode)
                if fsync:
                    os.fsync(unpublished.file)
                unpublished.close()
            _name(group, unpublished, location)
            return written
        finally:
            unpublished.discard()
    finally:
        group.leave()


def copy_stream(stream: BinaryIO, file: int, size: int | None, location: str) -> int:
    """Write what a stream still gives, through one buffer; what the stream raises comes out as it is."""
    room = _BUFFER if size is None else max(min(_BUFFER, size + 1), 4096)
    readinto = getattr(stream, "readinto", None)
    written = 0
    with memoryview(bytearray(room)) as buffer:
        while True:
            if readinto is not None:
                count = readinto(buffer)
                part: memoryview | bytes | None = None if count is None else buffer[:count]
            else:
                part = stream.read(room)
            if part is None:
                raise UnassignableError("the stream is in non-blocking mode and has no data now; make it blocking")
            if not part:
                return written
            written += _write(file, memoryview(part), location)


def copy_file(source: int, file: int, location: str) -> int:
    """Copy a whole file inside the kernel, sharing its blocks where the file system can."""
    written = 0
    copy_range = getattr(os, "copy_file_range", None)
    try:
        while copy_range is not None:
            count = copy_range(source, file, 1 << 30)
            if count == 0:
                break
            written += count
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise BackendError(f"storing {location!r} failed: {error.strerror}") from error
    # What the kernel would not copy, both offsets still standing where it stopped.
    with open(source, "rb", buffering=0, closefd=False) as stream:
        return written + copy_stream(stream, file, None, location)


def _write(file: int, part: memoryview, location: str) -> int:
    done = 0
    try:
        while done < part.nbytes:
            done += os.write(file, part[done:])
    except OSError as error:
        raise BackendError(f"storing {location!r} failed: {error.strerror}") from error
    return done


def _name(group: PutGroup, unpublished: Unpublished, location: str) -> None:
    name = location.rpartition("/")[2]
    folder = group.folder(location)
    named = False
    try:
        with disk_errors(group.root, location, "storing"):
            for last in (False, False, True):
                try:
                    unpublished.give(name, folder)
                    break
                except FileNotFoundError:  # a sweep removes empty folders, this one since it was opened
                    if last or not unpublished.exists():
                        raise
                    group.forget(folder)
                    folder = group.folder(location)
            named = True
            group.named(folder, location)
    except BaseException as error:
        # An interrupt may come right after the link: what bears the name tells whether it is ours.
        if named or unpublished.is_at(name, folder):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        if isinstance(error.__cause__, FileExistsError):
            message = (
                f"an object is at {location!r} below {group.root!r} already; store a replacement at a new location"
            )
            raise ObjectExistsError(message) from error.__cause__
        raise
