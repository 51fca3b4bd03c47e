"""Streams that behave as other people's do, well and badly."""

from __future__ import annotations

import io
from typing import Any


class OneShot(io.RawIOBase):
    """A stream that cannot seek and gives as few bytes as it likes, as a socket does."""

    def __init__(self, content: bytes, most: int = 7) -> None:
        self.content = content
        self.most = most
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        part = self.content[self.given : self.given + min(len(buffer), self.most)]
        buffer[: len(part)] = part
        self.given += len(part)
        return len(part)


class OnlyRead:
    """The least that a stream can be: an object with ``read``."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    def read(self, size: int = -1) -> Any:
        self.asked.append(size)
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Endless(io.RawIOBase):
    """A stream that never ends; ``given`` counts what was read of it."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self.given += len(buffer)
        buffer[:] = bytes(len(buffer))
        return len(buffer)
