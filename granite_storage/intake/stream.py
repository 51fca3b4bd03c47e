"""Read streams over other people's binary streams: checked, counted, limited.

:class:`CheckedStream` reads straight from its source, without a buffer of its own, gives as much as was asked for
unless the source ends, and refuses what no binary stream may give. :class:`SizeLimitedStream` adds a limit. Neither
ever closes its source.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, NoReturn

from granite_storage.exceptions import ContentTooLargeError, InvalidUploadError
from granite_storage.intake.stopping import check_stop

__all__ = ["CHUNK_SIZE", "CheckedStream", "SizeLimitedStream", "called", "in_bytes"]

CHUNK_SIZE = 1024 * 1024
"""How much is asked of a source at once when all of it is read, in bytes."""


def called(filename: str | None) -> str:
    """What an error calls an upload.

    >>> called("report.pdf"), called(None)
    ("'report.pdf'", 'the upload')
    """
    return repr(filename) if filename else "the upload"


def in_bytes(size: int) -> str:
    """A size as errors show it.

    >>> in_bytes(10485760), in_bytes(1)
    ('10 485 760 bytes', '1 byte')
    """
    return f"{size:,}".replace(",", " ") + (" byte" if size == 1 else " bytes")


class CheckedStream(io.BufferedIOBase):
    """A binary stream that reads straight from ``source`` and checks what it gives.

    :param source: any object with ``read(size)``; ``readinto``, ``seek`` and ``tell`` are used if it has them.
    :param filename: what errors call the upload.
    :param start: the source's position that is position 0 here, or None for a source that cannot seek.
    :raises InvalidUploadError: from a read, if the source gives text, None, or more than was asked for.

    >>> source = io.BytesIO(b"header body")
    >>> stream = CheckedStream(source, start=7)
    >>> stream.seek(0), stream.read(), stream.tell()
    (0, b'body', 4)
    """

    def __init__(self, source: Any, filename: str | None = None, *, start: int | None = None) -> None:
        self._source = source
        self._filename = filename
        self._start = start
        self._source_readinto = getattr(source, "readinto", None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._start is not None

    def tell(self) -> int:
        self._check_open()
        return int(self._source.tell()) - self._origin("tell")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        start = self._origin("seek")
        if whence == os.SEEK_SET:
            if offset < 0:
                raise ValueError(f"negative seek position {offset}")
            self._source.seek(start + offset)
        else:
            self._source.seek(offset, whence)
            if self._source.tell() < start:
                self._source.seek(start)
        return self.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        if size is None or size < 0:
            return b"".join(iter(lambda: self._read_once(CHUNK_SIZE), b""))
        data = self._read_once(size)
        if len(data) == size or not data:
            return data
        parts = [data]
        left = size - len(data)
        while left and (data := self._read_once(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        self._check_open()
        return self._read_once(CHUNK_SIZE if size < 0 else size)

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and (count := self._readinto_once(view[filled:])):
            filled += count
        return filled

    def readinto1(self, buffer: Any, /) -> int:
        self._check_open()
        return self._readinto_once(memoryview(buffer).cast("B"))

    def _read_once(self, size: int) -> bytes:
        """What one read of the source gives: 1 to ``size`` bytes, or none at its end."""
        check_stop()
        data = self._source.read(size)
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                self._refuse(data)
            data = bytes(data)
        if len(data) > size:
            raise InvalidUploadError(
                f"{called(self._filename)} cannot be read: its stream gave {in_bytes(len(data))} when asked for {size}"
            )
        return data

    def _readinto_once(self, view: memoryview) -> int:
        """As :meth:`_read_once`, into ``view``; returns the number of bytes."""
        if self._source_readinto is None:
            data = self._read_once(len(view))
            view[: len(data)] = data
            return len(data)
        check_stop()
        count = self._source_readinto(view)
        if type(count) is not int:
            self._refuse(count)
        if not 0 <= count <= len(view):
            raise InvalidUploadError(
                f"{called(self._filename)} cannot be read: its stream gave {count} bytes when asked for {len(view)}"
            )
        return count

    def _refuse(self, data: object) -> NoReturn:
        if data is None:
            why = "its stream is in non-blocking mode and had nothing to give; set it to blocking, or read it first"
        elif isinstance(data, str):
            why = "its stream gives text; open it in binary mode, as in open(..., 'rb')"
        else:
            why = f"its stream gave a value of type {type(data).__name__}, not bytes"
        raise InvalidUploadError(f"{called(self._filename)} cannot be read: {why}")

    def _origin(self, operation: str) -> int:
        if self._start is None:
            raise io.UnsupportedOperation(operation)
        return self._start

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed stream")


class SizeLimitedStream(CheckedStream):
    """A binary stream that gives at most ``max_size`` bytes of ``stream`` and raises if there are more.

    The limit is noticed by reading one byte beyond it, never more. Iteration gives chunks, not lines.

    :param stream: any object with ``read(size)``.
    :param max_size: bytes; no limit if None.
    :param chunk_size: bytes that each step of an iteration gives.
    :raises ContentTooLargeError: from the read that passes the limit, and from every read after it.

    >>> list(SizeLimitedStream(io.BytesIO(b"abcde"), 5, chunk_size=2))
    [b'ab', b'cd', b'e']
    >>> SizeLimitedStream(io.BytesIO(b"abcde"), 4).read()
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.ContentTooLargeError: the upload is larger than 4 bytes
    """

    def __init__(
        self,
        stream: Any,
        max_size: int | None,
        chunk_size: int = 65536,
        *,
        filename: str | None = None,
        limit: str = "",
    ) -> None:
        super().__init__(stream, filename)
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be 1 byte or more, not {chunk_size}")
        self._max_size = max_size
        self._chunk_size = chunk_size
        self._limit = limit
        self._count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self.read(self._chunk_size)
        if not chunk:
            raise StopIteration
        return chunk

    def _read_once(self, size: int) -> bytes:
        return self._counted(super()._read_once(self._allowed(size)))

    def _readinto_once(self, view: memoryview) -> int:
        count = super()._readinto_once(view[: self._allowed(len(view))])
        self._add(count)
        return count

    def _allowed(self, size: int) -> int:
        if self._max_size is None:
            return size
        self._add(0)
        return min(size, self._max_size - self._count + 1)

    def _counted(self, data: bytes) -> bytes:
        self._add(len(data))
        return data

    def _add(self, count: int) -> None:
        self._count += count
        if self._max_size is not None and self._count > self._max_size:
            raise ContentTooLargeError(
                f"{called(self._filename)} is larger than {in_bytes(self._max_size)}{self._limit}"
            )
