"""Publishing a file: written under ``.incoming/``, made durable, and only then given its name.

::

    .incoming/<random>   open, write, fsync, close
          |  link, which never replaces an object
          v
    docs/2024/...        fsync of the folder; the name under .incoming is removed

Whatever goes wrong before the end, an interrupt included, the name under ``.incoming`` is removed, and so is
the object's, if it had got one: a put that raises leaves nothing visible.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from granite_storage.backends.local_tree import disk_errors, make_folder
from granite_storage.exceptions import BackendError, ObjectExistsError, UnassignableError
from granite_storage.locations import INCOMING

__all__ = ["copy_file", "copy_stream", "publish"]

_BUFFER = 512 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


def publish(root: str, location: str, fill: Callable[[int], int], *, mode: int, fsync: bool) -> int:
    """Make an object of what ``fill`` writes to the descriptor that it is given.

    :param fill: returns how many bytes it wrote; what it raises comes out as it is.
    :param mode: the file's permissions, whatever the umask.
    :returns: what ``fill`` returned.
    :raises ObjectExistsError: if something is at the location already.
    :raises BackendError: if the disk fails.
    """
    with make_folder(root, location, fsync=fsync) as (folder, name):
        with disk_errors(root, INCOMING, "opening"):
            incoming = _open_incoming(root)
        temporary = os.urandom(16).hex()
        try:
            with disk_errors(root, location, "storing"):
                file = os.open(temporary, _NEW, mode, dir_fd=incoming)
            try:
                written = fill(file)
                with disk_errors(root, location, "storing"):
                    os.fchmod(file, mode)
                    if fsync:
                        os.fsync(file)
            except BaseException:
                with suppress(OSError):
                    os.close(file)
                raise
            with disk_errors(root, location, "storing"):
                os.close(file)  # some network file systems tell only here that the disk is full
            _name(incoming, temporary, folder, name, root, location, fsync=fsync)
            return written
        finally:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=incoming)
            os.close(incoming)


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


def _open_incoming(root: str) -> int:
    path = os.path.join(root, INCOMING)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return os.open(path, flags)


def _name(incoming: int, temporary: str, folder: int, name: str, root: str, location: str, *, fsync: bool) -> None:
    reserved = False
    try:
        with disk_errors(root, location, "storing"):
            try:
                os.link(temporary, name, src_dir_fd=incoming, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                raise
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _reserve(name, folder)
                reserved = True
                os.rename(temporary, name, src_dir_fd=incoming, dst_dir_fd=folder)
            if fsync:
                os.fsync(folder)
    except BaseException as error:
        # An interrupt may come right after the link: what bears the name tells whether it is ours.
        if reserved or _same_file(incoming, temporary, folder, name):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        if isinstance(error.__cause__, FileExistsError):
            message = f"an object is at {location!r} below {root!r} already; store a replacement at a new location"
            raise ObjectExistsError(message) from error.__cause__
        raise


def _reserve(name: str, folder: int) -> None:
    """Where there are no hard links (FAT, some network file systems), an empty file takes the name first.

    It costs what the link gives: for a moment the location shows an empty object, and a crash in it leaves that behind
    (no row names it). Another put still cannot replace it, nor it another's.
    """
    os.close(os.open(name, _NEW, 0o600, dir_fd=folder))


def _same_file(incoming: int, temporary: str, folder: int, name: str) -> bool:
    try:
        ours = os.stat(temporary, dir_fd=incoming, follow_symlinks=False)
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(ours, there)
