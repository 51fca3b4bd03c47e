"""Taking an upload in: one streaming pass that counts, hashes, sniffs the type and enforces the policy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, cast

from granite_storage.exceptions import (
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidUploadError,
    StorageError,
)
from granite_storage.intake.media_types import matches, normal_type
from granite_storage.intake.stream import SizeLimitedStream, called, in_bytes
from granite_storage.intake.suffixes import suffix_for
from granite_storage.intake.upload import Upload
from granite_storage.intake.validators import Candidate, validate
from granite_storage.policies import StoragePolicy

__all__ = ["Accepted", "accept"]


class AcceptedStream(SizeLimitedStream):
    """The content of an accepted upload: the head that was looked at, then the rest straight from the source."""

    def __init__(self, source: Any, head: bytes, policy: StoragePolicy, filename: str | None) -> None:
        super().__init__(source, policy.max_size, filename=filename, limit=_of(policy, "max_size"))
        self._head = head
        self._policy = policy
        self._hash = hashlib.new(policy.checksum)
        self._failure: BaseException | None = None
        self.finished = False

    @property
    def size(self) -> int:
        """The bytes that were read so far."""
        return self._count

    @property
    def checksum(self) -> str:
        """The checksum of the bytes that were read so far."""
        return f"{self._policy.checksum}:{self._hash.hexdigest()}"

    def _read_once(self, size: int) -> bytes:
        self._stay_failed()
        try:
            if self._head:
                data, self._head = self._head[:size], self._head[size:]
                self._add(len(data))
            else:
                data = super()._read_once(size)
            self._took(data, size)
        except BaseException as error:
            self._failure = error
            raise
        return data

    def _readinto_once(self, view: memoryview) -> int:
        if self._head:
            data = self._read_once(len(view))
            view[: len(data)] = data
            return len(data)
        self._stay_failed()
        try:
            count = super()._readinto_once(view)
            self._took(view[:count], len(view))
        except BaseException as error:
            self._failure = error
            raise
        return count

    def _stay_failed(self) -> None:
        """Once a read has failed all later ones do: nobody takes the part that was read for the whole."""
        if self._failure is not None:
            raise self._failure

    def _took(self, data: bytes | memoryview, asked: int) -> None:
        self._hash.update(data)
        if asked and not len(data):
            _check_min_size(self._count, self._policy, self._filename)
            self.finished = True


class Accepted:
    """An upload whose type, known size and validators passed; its size and checksum are known once it was read."""

    __slots__ = ("_stream", "content_type", "extra", "filename", "size_hint", "suffix")

    def __init__(
        self,
        stream: AcceptedStream,
        content_type: str,
        filename: str | None,
        extra: dict[str, Any] | None,
        size_hint: int | None,
    ) -> None:
        self._stream = stream
        self.content_type = content_type
        self.suffix = suffix_for(content_type)
        self.filename = filename
        self.extra = extra
        self.size_hint = size_hint

    def __repr__(self) -> str:
        return f"<Accepted {self.content_type}, finished={self.finished}>"

    @property
    def stream(self) -> BinaryIO:
        """The content, to be read once; a read raises as soon as the policy's ``max_size`` is passed."""
        return cast(BinaryIO, self._stream)

    @property
    def finished(self) -> bool:
        """Whether the stream was read to its end."""
        return self._stream.finished

    @property
    def size(self) -> int:
        """Bytes; asks :meth:`finish` if need be."""
        self.finish()
        return self._stream.size

    @property
    def checksum(self) -> str:
        """``"sha256:<hex>"``, by the policy's algorithm; asks :meth:`finish` if need be."""
        self.finish()
        return self._stream.checksum

    def finish(self) -> None:
        """Make sure that the stream was read to its end, as a backend that knows the size may not have asked for more.

        :raises StorageError: if the stream still has content: what was stored is not all of it.
        """
        if not self.finished and self._stream.read(1):
            raise StorageError(
                f"the backend stopped reading {called(self.filename)} after {in_bytes(self._stream.size - 1)}, "
                "before its end"
            )


@contextmanager
def accept(upload: Upload, policy: StoragePolicy) -> Iterator[Accepted]:
    """Open an upload, refuse what the policy refuses, and offer the rest for storing.

    :raises ContentTypeNotAllowedError: if the type that the bytes show is not among the policy's.
    :raises ContentTooLargeError: if the source tells a size above ``max_size``; else from the read that passes it.
    :raises ContentTooSmallError: likewise for ``min_size``; else from the read that finds the end.
    :raises ValidationError: if a validator refuses.

    >>> with accept(Upload(b"hello", "hello.txt"), StoragePolicy("notes", "local")) as accepted:
    ...     accepted.content_type, accepted.suffix, accepted.stream.read(), accepted.size
    ('text/plain', '.txt', b'hello', 5)
    """
    from granite_storage.intake.sniff import HEAD_SIZE, sniff  # its tables and patterns: not before they are needed

    with ExitStack() as stack:
        stream: Any = stack.enter_context(upload.open())
        size = upload.size
        if size is not None:
            _check_max_size(size, policy, upload.filename)
        wanted = HEAD_SIZE if policy.max_size is None else min(HEAD_SIZE, policy.max_size + 1)
        head = _read_head(stream, wanted)
        if len(head) < wanted:
            size = len(head)
        if size is not None:
            _check_max_size(size, policy, upload.filename)
            _check_min_size(size, policy, upload.filename)
        content_type = sniff(head, upload.content_type, upload.filename)
        _check_type(content_type, upload, policy)
        if policy.validators:
            reread = _Reread(upload, stream, head, policy)
            validate(Candidate(upload.filename, content_type, size, head, policy, reread.open))
            if reread.used:
                stream, size = stack.enter_context(upload.open()), upload.size
                if _read_head(stream, wanted) != head:
                    raise InvalidUploadError(f"{called(upload.filename)} changed while it was checked; assign it anew")
        yield Accepted(
            AcceptedStream(stream, head, policy, upload.filename), content_type, upload.filename, upload.extra, size
        )


class _Reread:
    """Opens the content for validators while the upload is open already."""

    def __init__(self, upload: Upload, stream: Any, head: bytes, policy: StoragePolicy) -> None:
        self.used = False
        self._upload, self._stream, self._head, self._policy = upload, stream, head, policy

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        upload, policy = self._upload, self._policy
        if not upload.rereadable:
            rest = AcceptedStream(self._stream, self._head, policy, upload.filename)
            upload.continue_with(rest)
        self.used = True
        with upload.open() as stream:
            yield stream


def _read_head(stream: Any, wanted: int) -> bytes:
    parts: list[bytes] = []
    while wanted and (data := stream.read(wanted)):
        parts.append(data)
        wanted -= len(data)
    return b"".join(parts)


def _check_max_size(size: int, policy: StoragePolicy, filename: str | None) -> None:
    if policy.max_size is not None and size > policy.max_size:
        raise ContentTooLargeError(
            f"{called(filename)} is larger than {in_bytes(policy.max_size)}{_of(policy, 'max_size')}"
        )


def _check_min_size(size: int, policy: StoragePolicy, filename: str | None) -> None:
    if policy.min_size is not None and size < policy.min_size:
        raise ContentTooSmallError(
            f"{called(filename)} has {in_bytes(size)}, fewer than {in_bytes(policy.min_size)}{_of(policy, 'min_size')}"
        )


def _check_type(content_type: str, upload: Upload, policy: StoragePolicy) -> None:
    if policy.content_types is None or matches(content_type, policy.content_types):
        return
    claim = normal_type(upload.content_type)
    claimed = f" (it claims to be {claim})" if claim and claim != normal_type(content_type) else ""
    raise ContentTypeNotAllowedError(
        f"{called(upload.filename)} is {content_type}{claimed}; "
        f"the content_types of policy {policy.storage_key!r} are {', '.join(policy.content_types)}"
    )


def _of(policy: StoragePolicy, limit: str) -> str:
    return f", the {limit} of policy {policy.storage_key!r}"
