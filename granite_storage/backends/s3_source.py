"""The stream of an upload as its parts are cut from it: read once, in order, straight into their buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from granite_storage.exceptions import UnassignableError

__all__ = ["PartSource"]

_CHUNK = 256 * 1024
"""Bytes that are asked for at once: few enough to be in the processor's cache still when they are hashed."""


class PartSource:
    """Reads a stream until it ends; a read that gives less than was asked for is not its end.

    :param count: the bytes that were read so far.
    :param ended: whether the stream gave none any more.
    """

    __slots__ = ("_ahead", "_read", "_readinto", "count", "ended")

    def __init__(self, stream: BinaryIO) -> None:
        self._read = stream.read
        self._readinto: Callable[[Any], Any] | None = getattr(stream, "readinto", None)
        self._ahead = b""
        self.count = 0
        self.ended = False

    def read(self, size: int) -> bytes:
        """``size`` bytes; fewer only at the end."""
        parts: list[bytes] = []
        left = size
        while left and not self.ended:
            data = self._checked(self._read(left))
            self.ended = not data
            parts.append(data)
            left -= len(data)
            self.count += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def has_more(self) -> bool:
        """Whether there is more; the byte that is read to find out is the first of what comes next."""
        if not self._ahead and not self.ended:
            self._ahead = self.read(1)
        return bool(self._ahead)

    def fill(self, buffer: bytearray, head: bytes = b"", *, stop: Callable[[], bool] = lambda: False) -> None:
        """Fill a buffer with ``head`` and what comes next, and cut it where the stream ends.

        :param stop: asked between reads, whether the buffer need not be filled.
        """
        head += self._ahead
        self._ahead = b""
        end, size = len(head), len(buffer)
        buffer[:end] = head
        with memoryview(buffer) as whole:
            while end < size and not self.ended and not stop():
                with whole[end : min(end + _CHUNK, size)] as view:
                    count = self._into(view)
                self.ended = not count
                end += count
                self.count += count
        del buffer[end:]

    def _into(self, view: memoryview) -> int:
        if self._readinto is not None:
            return int(self._checked(self._readinto(view)))
        data = self._checked(self._read(len(view)))
        view[: len(data)] = data
        return len(data)

    def _checked(self, given: Any) -> Any:
        if given is None:
            raise UnassignableError("the stream is in non-blocking mode and has no data now; make it blocking")
        return given
