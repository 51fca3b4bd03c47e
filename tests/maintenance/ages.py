"""Objects of any age: what a test cannot wait for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from granite_storage import MemoryStorageBackend
from granite_storage.backends.memory import _Object
from granite_storage.locations import new_location

__all__ = ["HOUR", "put_old"]

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
