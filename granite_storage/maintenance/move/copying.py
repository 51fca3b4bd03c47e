"""One file's copy under another policy: on the server where that can be, else streamed; and verified.

What the ref says of the file stays: filename, type, ``created_at`` (when it came into the application), ``extra``,
unknown members. Policy, backend and location are new; of a streamed one the checksum, too, if the policy wants another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from granite_storage.backends.base import Ability, CopyBackend, CopyFromBackend, StatBackend, has_ability
from granite_storage.deletion import discard
from granite_storage.exceptions import BackendError, NotSupportedError
from granite_storage.files import StoredFile
from granite_storage.intake.stream import CheckedStream
from granite_storage.intake.suffixes import suffix_for
from granite_storage.locations import new_location
from granite_storage.storing import settings_argument
from granite_storage.verifying import check_digest, check_size, digest_of

if TYPE_CHECKING:
    from hashlib import _Hash

    from granite_storage.backends.base import StorageBackend
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy
    from granite_storage.refs import StoredObjectRef

__all__ = ["Copier"]


class Copier:
    """Copies files to fresh locations under a policy.

    :param reread: whether each copy is read back, and compared with the checksum.
    """

    def __init__(self, manager: StorageManager, policy: StoragePolicy, *, reread: bool) -> None:
        self._manager, self._policy, self._reread = manager, policy, reread
        self._target = manager.get_backend_for_policy(policy)
        self._unreadable: list[StorageBackend] = []
        """Backends of the same service that the target may not read."""

    def copy(self, ref: StoredObjectRef) -> tuple[StoredObjectRef, bool]:
        """Copy a file; gives the copy's ref, and whether the store made it by itself. Nothing stays if it fails.

        :raises ObjectNotFoundError: if the object is missing.
        :raises ChecksumMismatchError: if it is not what the ref says.
        :raises StorageError: if it cannot be read or written.
        """
        source, policy = self._manager.backend_of(ref), self._policy
        copied = ref.replace(  # made before a byte is stored, so that what no ref could say is refused at once
            storage_key=policy.storage_key,
            backend=policy.backend_key,
            location=new_location(policy.prefix, suffix_for(ref.content_type or "")),
            extra=_extra(ref, source, self._target),
        )
        by_itself = self._on_server(source, ref, copied)
        if not by_itself:
            copied = self._streamed(ref, copied)
        elif has_ability(self._target, Ability.STAT):
            with self._whole_or_gone(copied):
                check_size(copied, cast("StatBackend", self._target).stat(copied).size)
        if self._reread:
            with self._whole_or_gone(copied):
                StoredFile(self._manager, copied).verify()
        return copied, by_itself

    @contextmanager
    def _whole_or_gone(self, copied: StoredObjectRef) -> Iterator[None]:
        try:
            yield
        except BaseException:
            discard(self._target, copied)
            raise

    def _on_server(self, source: StorageBackend, ref: StoredObjectRef, copied: StoredObjectRef) -> bool:
        policy, target = self._policy, self._target
        if not ref.checksum.startswith(policy.checksum + ":"):  # the bytes must be seen
            return False
        options = {"content_type": ref.content_type, **settings_argument(target, policy)}
        if source is target:
            if has_ability(target, Ability.COPY):
                cast("CopyBackend", target).copy(ref, key=copied.location, **options)
                return True
        elif has_ability(target, Ability.COPY_FROM) and source not in self._unreadable:
            between = cast("CopyFromBackend", target)
            if between.copies_from(source):
                try:
                    between.copy_from(source, ref, key=copied.location, **options)
                except BackendError:  # permissions, perhaps: whatever it was, the stream says so, too
                    self._unreadable.append(source)
                else:
                    return True
        return False

    def _streamed(self, ref: StoredObjectRef, copied: StoredObjectRef) -> StoredObjectRef:
        digests = {self._policy.checksum: hashlib.new(self._policy.checksum, usedforsecurity=False)}
        expected = None
        with suppress(NotSupportedError):  # 0.1.0 may have recorded none
            expected = digests.setdefault(ref.checksum.partition(":")[0], digest_of(ref))
        with self._manager.open(ref) as opened:
            stream = _HashedStream(opened, digests.values())
            put = self._target.put_stream(
                key=copied.location,
                stream=cast(BinaryIO, stream),
                size=ref.size,
                content_type=ref.content_type,
                original_filename=ref.original_filename,
                extra=copied.extra,
                **settings_argument(self._target, self._policy),
            )
            with self._whole_or_gone(put):
                stream.read(1)  # a backend that knows the size may not have asked for more
        with self._whole_or_gone(put):
            check_size(ref, stream.size)
            if expected is not None:
                check_digest(ref, expected)
        checksum = f"{self._policy.checksum}:{digests[self._policy.checksum].hexdigest()}"
        return copied.replace(
            location=put.location, checksum=checksum, extra={**(put.extra or {}), **(copied.extra or {})} or None
        )


class _HashedStream(CheckedStream):
    """A stream that counts and hashes what is read from it."""

    def __init__(self, source: Any, digests: Any) -> None:
        super().__init__(source)
        self._digests: tuple[_Hash, ...] = tuple(digests)
        self.size = 0

    def _read_once(self, size: int) -> bytes:
        data = super()._read_once(size)
        self._took(data)
        return data

    def _readinto_once(self, view: memoryview) -> int:
        if self._source_readinto is None:
            return super()._readinto_once(view)  # by _read_once()
        count = super()._readinto_once(view)
        self._took(view[:count])
        return count

    def _took(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        for digest in self._digests:
            digest.update(data)


def _extra(ref: StoredObjectRef, source: Any, target: Any) -> dict[str, Any] | None:
    """A ref's ``extra``, in which the S3 backend has noted the bucket."""
    extra = dict(ref.extra or {})
    bucket = getattr(source, "bucket", None)
    if bucket is not None and extra.get("bucket") == bucket:
        del extra["bucket"]
        if (new := getattr(target, "bucket", None)) is not None:
            extra["bucket"] = new
    return extra or None
