"""What the suite puts: contents of known bytes, and streams that behave as badly as real ones."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from granite_storage.locations import new_location
from granite_storage.refs import StoredObjectRef

__all__ = ["SIZES", "content_of", "fresh_location", "one_shot", "ref_to", "then"]

_BORDERS = (4096, 65_536, 262_144, 524_288, 1_048_576, 8_388_608)
SIZES = (0, 1, 2, *(border + offset for border in _BORDERS for offset in (-1, 0, 1)))
"""Bytes, around the sizes that buffers and parts usually have."""


def content_of(size: int) -> bytes:
    """``size`` bytes without a pattern, the same each time."""
    return random.Random(size).randbytes(size)


def fresh_location() -> str:
    """A location where nothing is."""
    return new_location("suite", ".bin")


def ref_to(backend: Any, location: str) -> StoredObjectRef:
    """A ref to a location, whether or not something is there."""
    return StoredObjectRef("", backend.backend_name, location, 0, "")


def one_shot(content: bytes, piece: int = 1000) -> BinaryIO:
    """A stream that can be read once, as a socket: no seek, no size, and reads that give less than was asked for."""
    return cast("BinaryIO", _Pieces(io.BytesIO(content), piece, None))


def then(content: bytes, action: Callable[[], Any], piece: int = 65_536) -> BinaryIO:
    """A one-shot stream that calls ``action``, which may raise, once ``content`` has been read."""
    return cast("BinaryIO", _Pieces(io.BytesIO(content), piece, action))


class _Pieces(io.RawIOBase):
    def __init__(self, content: BinaryIO, piece: int, action: Callable[[], Any] | None) -> None:
        super().__init__()
        self._content = content
        self._piece = piece
        self._action = action

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(min(len(buffer), self._piece))
        if not data and self._action is not None:
            self._action()
        buffer[: len(data)] = data
        return len(data)
