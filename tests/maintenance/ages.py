"""Objects of any age, and statements that wait for long: what a test cannot wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import Engine, event

from granite_storage import MemoryStorageBackend
from granite_storage.backends.memory import _Object
from granite_storage.locations import new_location
from granite_storage.orm import ledger

__all__ = ["HOUR", "TELL_NONE", "LateClock", "put_old", "waiting_updates"]

TELL_NONE = [{"location": one, "size": 3, "backend": "memory"} for one in (5, -1.5, True, False, "", {"a": 1}, ["a"])]
"""What looks like a ref and tells no location."""

HOUR = timedelta(hours=1)


def put_old(
    backend: MemoryStorageBackend,
    age: timedelta,
    *,
    prefix: str = "docs",
    modified: timedelta | None = None,
    content: bytes = b"old",
) -> str:
    """Put an object that was uploaded that long ago, as by a transaction that never committed; gives its location.

    :param modified: how long ago the store says it was; as long by default.
    """
    now = datetime.now(UTC)
    location = new_location(prefix, ".bin", milliseconds=int((now - age).timestamp() * 1000))
    backend._objects[location] = _Object(content, now - (age if modified is None else modified))
    return location


class LateClock:
    """The clock by which uploads are found too old for a commit."""

    def __init__(self) -> None:
        self.late = timedelta(0)

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + self.late


@contextmanager
def waiting_updates(
    engine: Engine, monkeypatch: Any, late: timedelta, sweep: Callable[[], object]
) -> Iterator[LateClock]:
    """Each UPDATE of ``document`` waits so long for somebody's lock, while a sweep deletes what no row names.

    :param sweep: does that, as far as it matters.
    """
    clock = LateClock()
    monkeypatch.setattr(ledger, "datetime", clock)

    def wait(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE document "):
            clock.late = late
            sweep()

    event.listen(engine, "before_cursor_execute", wait)
    try:
        yield clock
    finally:
        event.remove(engine, "before_cursor_execute", wait)
