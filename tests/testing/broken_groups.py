"""Backends in memory with one fault each, in their groups of puts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

from granite_storage.backends.base import Ability
from granite_storage.exceptions import BackendError
from granite_storage.refs import StoredObjectRef
from tests.testing.broken_puts import Good


class GoodGroups(Good):
    """What the broken ones are made of."""

    abilities = Good.abilities | {Ability.GROUP}

    @contextmanager
    def group(self) -> Iterator[None]:
        yield


_waiting: ContextVar[dict[str, bytes] | None] = ContextVar("waiting", default=None)


class ShowsAtTheEnd(GoodGroups):
    @contextmanager
    def group(self) -> Iterator[None]:
        before = _waiting.set({})
        try:
            yield
            self._show()
        finally:
            _waiting.reset(before)

    def _show(self) -> None:
        for location, content in (_waiting.get() or {}).items():
            self._put(location, content)

    def _publish(self, location: str, content: bytes) -> None:
        waiting = _waiting.get()
        if waiting is None:
            super()._publish(location, content)
        else:
            waiting[location] = content


class BringsBackTheDeleted(GoodGroups):
    @contextmanager
    def group(self) -> Iterator[None]:
        before = self.__dict__["put"] = {}
        yield
        for location, content in before.items():
            self._put(location, content)

    def _publish(self, location: str, content: bytes) -> None:
        super()._publish(location, content)
        self.__dict__.get("put", {})[location] = content


class SwallowsErrors(GoodGroups):
    @contextmanager
    def group(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            raise BackendError("the group failed") from error


class RefusesTheLate(GoodGroups):
    ended = False

    @contextmanager
    def group(self) -> Iterator[None]:
        yield
        self.ended = True

    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        ref = super().put_stream(key=key, stream=stream, **rest)
        if self.ended:
            raise BackendError("the group is closed")
        return ref
