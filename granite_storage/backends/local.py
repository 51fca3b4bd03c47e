"""Objects as files below a directory: atomic, durable, and never outside it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo
from granite_storage.backends.listing import folder_of
from granite_storage.backends.local_group import put_group
from granite_storage.backends.local_listing import walk
from granite_storage.backends.local_publish import copy_file, copy_stream, publish
from granite_storage.backends.local_tree import disk_errors, find_folder, info, open_file
from granite_storage.backends.local_unpublished import can_link_unnamed
from granite_storage.backends.new_ref import new_ref
from granite_storage.backends.urls import BackendURL, boolean
from granite_storage.exceptions import (
    ConfigurationError,
    ObjectNotFoundError,
    StorageError,
)
from granite_storage.locations import INCOMING, check_location
from granite_storage.refs import StoredObjectRef

__all__ = ["LocalStorageBackend"]


class LocalStorageBackend:
    """Files below ``root_dir``, each at its location.

    A file appears whole or not at all, never replaces another, and is on the disk when a put returns. No symbolic link
    below the root is followed. A put into a folder that is there costs two fsyncs, one of them the folder's; a
    :meth:`group` of puts shares that one. The root must be one file system.

    :param root_dir: the directory; it is made if it is missing.
    :param fsync: whether a put waits until file and folder are on the disk. Without it a power failure may lose or
        empty files that the database already names.
    :param mode: the permissions of files, whatever the umask; folders are 0750 less the umask.
    :raises ConfigurationError: if the directory cannot be made, or the system lacks ``dir_fd`` (Windows).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backend = LocalStorageBackend(folder)
    ...     ref = backend.put_bytes(key="docs/a.txt", content=b"hello")
    ...     (Path(folder) / "docs" / "a.txt").read_bytes()
    b'hello'
    """

    backend_name = "local"
    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {
            Ability.NO_OVERWRITE,
            Ability.RANGED_READ,
            Ability.STAT,
            Ability.COPY,
            Ability.BATCH_DELETE,
            Ability.ORDERED_LISTING,
            Ability.LOCAL_PATH,
            Ability.GROUP,
            Ability.LEFTOVERS,
        }
    )

    def __init__(self, root_dir: str | os.PathLike[str], *, fsync: bool = True, mode: int = 0o640) -> None:
        if os.open not in os.supports_dir_fd:
            raise ConfigurationError("LocalStorageBackend needs a POSIX system, where files open relative to a folder")
        if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
            raise ConfigurationError(f"mode {mode:#o} must let the owner read and write, as 0o640 does")
        self.root_dir = Path(root_dir).absolute()
        self.fsync = fsync
        self.mode = mode
        self._root = str(self.root_dir)
        try:
            self.root_dir.mkdir(parents=True, exist_ok=True)
            (self.root_dir / INCOMING).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"the root {self._root!r} cannot be made: {error.strerror}") from error
        self._unnamed = can_link_unnamed(os.path.join(self._root, INCOMING))

    @classmethod
    def from_url(cls, url: BackendURL) -> Self:
        """Make a backend from ``file:///var/uploads?fsync=false&mode=0640``.

        :raises ConfigurationError: if the path is not absolute, or an option is unknown.
        """
        options = url.read_options(fsync=boolean, mode=lambda text: int(text, 8))
        if url.host not in ("", "localhost") or url.username is not None or not url.path.startswith("/"):
            raise ConfigurationError(
                f"backend URL {url.masked!r}: a file URL has no host and an absolute path, as in 'file:///var/uploads'"
            )
        return cls(url.path, **options)

    @property
    def place(self) -> str:
        """The store itself, whatever name or link leads to it."""
        return f"file:{os.path.realpath(self._root)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r}{'' if self.fsync else ', fsync=False'})"

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store ``content`` at the location ``key``; raises as :meth:`put_stream`."""
        return self.put_stream(
            key=key,
            stream=io.BytesIO(content),
            size=len(content),
            checksum=f"sha256:{sha256(content).hexdigest()}",
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
        )

    def put_stream(
        self,
        *,
        key: str,
        stream: BinaryIO,
        size: int | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store what ``stream`` still gives.

        :raises InvalidLocationError: if ``key`` is no location, or the file system has no room for such a name.
        :raises ObjectExistsError: if something is there already.
        :raises BackendError: if the disk fails, or a folder of ``key`` is a symbolic link.
        """
        check_location(key)
        ref = new_ref(
            self.backend_name,
            key,
            size=size if size is not None and 0 <= size < 2**63 else 0,  # a hint, which may be wrong
            checksum=checksum,
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
        )
        written = self._publish(key, lambda file: copy_stream(stream, file, size, key))
        return ref if written == ref.size else ref.replace(size=written)

    def group(self) -> AbstractContextManager[None]:
        """Puts and copies in the ``with`` block are on the disk when it ends: a folder is synced once, not once a file.

        It reaches threads that run in a copy of the block's context.

        :raises BackendError: at its end, if a folder cannot be synced; what was put is then the caller's to delete.
        """
        return put_group(self._root, fsync=self.fsync)

    def get(self, ref: StoredObjectRef) -> bytes:
        """The whole content; raises ObjectNotFoundError."""
        with self.open(ref) as stream, disk_errors(self._root, ref.location, "reading"):
            return stream.read()

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A seekable stream; raises ObjectNotFoundError."""
        return os.fdopen(open_file(self._root, ref.location), "rb")

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether there is an object at the ref's location."""
        try:
            info(self._root, ref.location)
        except ObjectNotFoundError:
            return False
        return True

    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        """Size and time of an object; raises ObjectNotFoundError."""
        return info(self._root, ref.location)

    @contextmanager
    def local_path(self, ref: StoredObjectRef) -> Iterator[Path]:
        """The object's own path, for reading only; raises ObjectNotFoundError.

        That no segment is a symbolic link is judged on entry.
        """
        info(self._root, ref.location)
        yield self.root_dir / ref.location

    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        """Copy an object to the new location ``key``; raises ObjectNotFoundError, ObjectExistsError.

        The copy is a file of its own; file systems that can (Btrfs, XFS) let both share their blocks.
        """
        check_location(key)
        source = open_file(self._root, ref.location)
        try:
            self._publish(key, lambda file: copy_file(source, file, key))
        finally:
            os.close(source)

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none. Folders stay.

        It does not wait for the disk: a file that a power failure brings back is an orphan, which gc finds.
        """
        with suppress(ObjectNotFoundError):
            info(self._root, ref.location)
            with (
                find_folder(self._root, ref.location) as (folder, name),
                disk_errors(self._root, ref.location, "deleting"),
                suppress(FileNotFoundError),
            ):
                os.unlink(name, dir_fd=folder)

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects one after the other; gives those that could not be deleted."""
        failures = []
        for ref in refs:
            try:
                self.delete(ref)
            except StorageError as error:
                failures.append(DeleteFailure(ref, error))
        return failures

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        """All locations in the folder ``prefix``, in byte order; raises InvalidLocationError."""
        return (found.location for found in self.iter_objects(prefix))

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects in the folder ``prefix`` in byte order, those after ``start_after``; raises InvalidLocationError."""
        return walk(self._root, folder_of(prefix), start_after or "")

    def remove_leftovers(
        self, before: datetime, *, prefixes: Collection[str] | None = None, dry_run: bool = False
    ) -> int:
        """Remove unfinished files last written to before ``before``, and empty folders of days that had ended by then.

        :param prefixes: remove only folders in these; an unfinished file tells no folder.
        :returns: how many files and folders were, or with ``dry_run`` would be, removed.
        :raises BackendError: if the disk fails.
        """
        from granite_storage.backends.local_leftovers import remove_empty_folders, remove_unfinished  # sweeps only

        unfinished = remove_unfinished(self._root, before, dry_run=dry_run)
        return unfinished + remove_empty_folders(self._root, before, prefixes, dry_run=dry_run)

    def _publish(self, location: str, fill: Callable[[int], int]) -> int:
        return publish(self._root, location, fill, mode=self.mode, fsync=self.fsync, unnamed=self._unnamed)
