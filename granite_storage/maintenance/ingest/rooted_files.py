"""Files below a root folder, which no path leaves: no ``..``, no symbolic link is followed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from granite_storage.backends.local_tree import disk_errors, make_folder, open_file
from granite_storage.exceptions import InvalidUploadError, ObjectNotFoundError, StorageError
from granite_storage.files import CHUNK_SIZE
from granite_storage.verifying import check_digest, check_size, digest_of

if TYPE_CHECKING:
    from granite_storage.files import StoredFile
    from granite_storage.refs import StoredObjectRef

__all__ = ["holds", "open_below", "write_below"]

_MODE = 0o640


@contextmanager
def open_below(root: str, path: str) -> Iterator[BinaryIO]:
    """A file at a path, relative to the root or absolute and below it.

    :raises InvalidUploadError: if the path leaves the root, names no regular file, or leads through a symbolic link.
    """
    try:
        descriptor = open_file(root, _relative(root, path))
    except StorageError as error:
        raise InvalidUploadError(f"its path names no file to take: {error}") from error
    with open(descriptor, "rb") as stream:
        yield stream


def holds(root: str, path: str, ref: StoredObjectRef) -> bool | None:
    """Whether the file at a path is what a ref describes; None if there is none.

    :raises InvalidUploadError: if the path leaves the root.
    """
    try:
        descriptor = open_file(root, _relative(root, path))
    except ObjectNotFoundError:
        return None
    with open(descriptor, "rb") as stream:
        if os.fstat(stream.fileno()).st_size != ref.size:
            return False
        hashed = digest_of(ref)
        while chunk := stream.read(CHUNK_SIZE):
            hashed.update(chunk)
    return hashed.hexdigest() == ref.checksum.partition(":")[2].lower()


def write_below(root: str, path: str, file: StoredFile) -> str:
    """Write a stored file to a path at which nothing is: whole and durable, or not at all; gives its absolute path.

    A file that is there and is the same, as a run that was cut off left it, is taken for it.

    :raises InvalidUploadError: if the path leaves the root, or another file is there.
    :raises ChecksumMismatchError: if the object is not what its ref says.
    """
    location = _relative(root, path)
    part, name = f".{secrets.token_hex(8)}.part", location.rpartition("/")[2]
    folder = make_folder(root, location, fsync=True)
    try:
        with disk_errors(root, location, "writing"):
            try:
                _copy(file, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=folder))
                taken = not _link(folder, part, name)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=folder)
            os.fsync(folder)
    finally:
        os.close(folder)
    if taken and not holds(root, path, file.ref):
        raise InvalidUploadError(f"another file is at {path[:200]!r} below root={root!r}, and it is not overwritten")
    return os.path.join(root, location)


def _copy(file: StoredFile, descriptor: int) -> None:
    hashed = digest_of(file.ref)
    with open(descriptor, "wb") as to:
        for chunk in file.iter_bytes(CHUNK_SIZE):
            to.write(chunk)
            hashed.update(chunk)
        check_size(file.ref, to.tell())
        check_digest(file.ref, hashed)
        to.flush()
        os.fsync(to.fileno())


def _link(folder: int, part: str, name: str) -> bool:
    """Give a file its name, which replaces nothing; whether the name was free."""
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def _relative(root: str, path: str) -> str:
    """A path as it is below the root; whether it stays there is judged where it is opened, segment by segment."""
    if os.path.isabs(path):
        inside = path.startswith(root.rstrip("/") + "/")
        if not inside:
            raise InvalidUploadError(f"its path {path[:200]!r} is not below root={root!r}")
        path = path[len(root.rstrip("/")) :]
    return "/".join(segment for segment in path.split("/") if segment not in ("", "."))
