"""The file that a put writes before it gets its name, in the two ways there are.

On Linux most local file systems make a file without any name (``O_TMPFILE``, see open(2)): a crash leaves nothing
behind, and puts do not wait for each other to enter ``.incoming``. Elsewhere the file has a random name there
meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Protocol

from granite_storage.backends.local_group import PutGroup

__all__ = ["Unpublished", "can_link_unnamed", "new_file"]

_WITHOUT_NAME = os.O_WRONLY | getattr(os, "O_TMPFILE", 0) | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


class Unpublished(Protocol):
    """A file without its final name, open for writing. What fails raises OSError."""

    file: int
    """Its descriptor."""

    def close(self) -> None:
        """Close it, if that can tell of an error that nothing else told of."""
        ...

    def give(self, name: str, folder: int) -> None:
        """Give it its name, which replaces nothing; if this raises, the name is not its."""
        ...

    def exists(self) -> bool:
        """Whether it is still there to be named."""
        ...

    def is_at(self, name: str, folder: int) -> bool:
        """Whether what bears the name is this file."""
        ...

    def discard(self) -> None:
        """Let go of it: unless it was given a name, it is gone."""
        ...


def new_file(group: PutGroup, mode: int, *, unnamed: bool) -> Unpublished:
    """A new file in ``.incoming``; raises OSError, BackendError.

    :param unnamed: whether :func:`can_link_unnamed` said that it may do without a name.
    """
    incoming = group.incoming()
    try:
        return _new_file(group, incoming, mode, unnamed=unnamed)
    except FileNotFoundError:  # removed since the group opened it
        group.forget(incoming)
        return _new_file(group, group.incoming(), mode, unnamed=unnamed)


def can_link_unnamed(path: str) -> bool:
    """Whether files in the folder at ``path`` can be made without a name and linked later; it is tried, with one."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    name = os.urandom(16).hex()
    with ExitStack() as stack:
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, folder)
            unnamed = _Unnamed(os.open(".", _WITHOUT_NAME, 0o600, dir_fd=folder))
            stack.callback(unnamed.discard)
            unnamed.give(name, folder)
            os.unlink(name, dir_fd=folder)
        except OSError:
            return False
    return True


def _new_file(group: PutGroup, incoming: int, mode: int, *, unnamed: bool) -> Unpublished:
    if unnamed:
        # Another file system may have been mounted since. Whatever is wrong, a file with a name shows it, too.
        with suppress(OSError):
            return _Unnamed(os.open(".", _WITHOUT_NAME, mode, dir_fd=incoming))
    temporary = group.temporary_name()
    return _Named(os.open(temporary, _NEW, mode, dir_fd=incoming), temporary, incoming)


class _Unnamed:
    __slots__ = ("file",)

    def __init__(self, file: int) -> None:
        self.file = file

    def close(self) -> None:
        pass  # the descriptor is all there is of it

    def give(self, name: str, folder: int) -> None:
        # The way that open(2) gives; linking a bare descriptor needs a privilege. (Without dir_fd Python follows none.)
        os.link(f"/proc/self/fd/{self.file}", name, dst_dir_fd=folder, follow_symlinks=True)

    def exists(self) -> bool:
        return True

    def is_at(self, name: str, folder: int) -> bool:
        return _same(lambda: os.fstat(self.file), name, folder)

    def discard(self) -> None:
        with suppress(OSError):
            os.close(self.file)


class _Named:
    __slots__ = ("_closed", "_incoming", "_temporary", "file")

    def __init__(self, file: int, temporary: str, incoming: int) -> None:
        self.file = file
        self._temporary, self._incoming, self._closed = temporary, incoming, False

    def close(self) -> None:
        self._closed = True
        os.close(self.file)  # some network file systems tell only here that the disk is full

    def give(self, name: str, folder: int) -> None:
        try:
            os.link(self._temporary, name, src_dir_fd=self._incoming, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _reserve(name, folder)
            try:
                os.rename(self._temporary, name, src_dir_fd=self._incoming, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                raise

    def exists(self) -> bool:
        try:
            self._stat()
        except OSError:
            return False
        return True

    def is_at(self, name: str, folder: int) -> bool:
        return _same(self._stat, name, folder)

    def discard(self) -> None:
        with suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._incoming)
        if not self._closed:
            with suppress(OSError):
                os.close(self.file)

    def _stat(self) -> os.stat_result:
        return os.stat(self._temporary, dir_fd=self._incoming, follow_symlinks=False)


def _reserve(name: str, folder: int) -> None:
    """Where there are no hard links (FAT, some network file systems), an empty file takes the name first.

    It costs what the link gives: for a moment the location shows an empty object, and a crash in it leaves that behind
    (no row names it). Another put still cannot replace it, nor it another's.
    """
    os.close(os.open(name, _NEW, 0o600, dir_fd=folder))


def _same(ours: Callable[[], os.stat_result], name: str, folder: int) -> bool:
    try:
        return os.path.samestat(ours(), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return False
