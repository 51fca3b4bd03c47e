"""A seekable stream over an object in S3: it asks for the ranges that are read, and for more as reading goes on."""

from __future__ import annotations

import io
import os
from contextlib import closing
from typing import Any

from granite_storage.backends.s3_ranges import ObjectVersion, RangeStream

__all__ = ["open_version"]

_BUFFER = 128 * 1024
_TAIL = 256 * 1024
_LARGEST = 64 * 1024 * 1024


def open_version(version: ObjectVersion) -> io.BufferedReader:
    """Open an object for reading. It asks for nothing before the first read.

    Memory is bounded: a buffer of 128 KiB, the object's last 256 KiB once something there was read, and what is asked
    for.
    """
    return _Reader(_RangeReader(version))


class _Reader(io.BufferedReader):
    """Tells how much is wanted: a large read would else be a request for most of it, and one for the rest."""

    def __init__(self, ranges: _RangeReader) -> None:
        super().__init__(ranges, _BUFFER)
        self._ranges = ranges

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _BUFFER and not self.closed:
            self._ranges.expected = self.tell() + size
            try:
                return super().read(size)
            finally:
                self._ranges.expected = 0
        return super().read(size)


class _RangeReader(io.RawIOBase):
    """Ranged GETs of one version of an object.

    Where reading begins anew, just what is wanted is asked for, so that the connection is read to its end and used
    again. While it goes straight on, each range is four times the one before: its bytes are on their way before they
    are read, in the connection's buffers, and not in memory here. The last bytes are asked for at once and kept, since
    zip files and Parquet files have their directory there and read it in several steps.
    """

    def __init__(self, version: ObjectVersion) -> None:
        super().__init__()
        self.expected = 0  # how far the read reaches that comes next
        self._version = version
        self._size = version.size
        self._position = 0
        self._stream = RangeStream(version, -1, -1)
        self._window = _BUFFER
        self._tail = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.closed:
            raise ValueError("seek of a closed file")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:  # SEEK_DATA, SEEK_HOLE: io lets them through
            raise ValueError(f"whence value {whence} unsupported")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not view or self._position >= self._size:
            return 0
        data = self._fetch(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        content = io.BytesIO()  # gives what was written without a copy
        self.expected = self._size
        try:
            while self._position < self._size:
                content.write(self._fetch(self._size - self._position))
        finally:
            self.expected = 0
        return content.getvalue()

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _fetch(self, wanted: int) -> bytes:
        """Some of the bytes at the position, which is before the end."""
        data = self._from_tail(wanted)
        if not data:
            goes_on = self._reach_position()
            if not goes_on and self._size - self._position <= _TAIL:
                with closing(RangeStream(self._version, max(self._size - _TAIL, 0), self._size)) as tail:
                    self._tail = b"".join(iter(tail.read, b""))
                data = self._from_tail(wanted)
            else:
                data = self._stream_on(goes_on, wanted).read(wanted)
        self._position += len(data)
        return data

    def _from_tail(self, wanted: int) -> bytes:
        start = self._position - (self._size - len(self._tail))
        return self._tail[start : start + wanted] if start >= 0 else b""

    def _reach_position(self) -> bool:
        """Whether the last range leads to the position, if need be by reading over a few bytes that nobody wants."""
        stream = self._stream
        if self._position <= stream.end:
            while 0 < self._position - stream.position <= _BUFFER:
                stream.read(self._position - stream.position)
        return stream.position == self._position

    def _stream_on(self, goes_on: bool, wanted: int) -> RangeStream:
        """A stream whose next byte is the one at the position."""
        if goes_on and self._stream.position < self._stream.end:
            return self._stream
        self._window = min(self._window * 4, _LARGEST) if goes_on else _BUFFER
        self._stream.close()
        end = max(self._position + max(wanted, self._window), self.expected)
        self._stream = RangeStream(self._version, self._position, min(end, self._size))
        return self._stream
