"""How fast a move goes on: not faster, on average, than it was told."""

from __future__ import annotations

import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from granite_storage.aio import WorkerPool

__all__ = ["Pace"]

_NAP = 1.0  # seconds: a task that is cancelled, or an interrupt, waits no longer


class Pace:
    """Keeps to bytes and objects per second.

    :param bytes_per_second: None for no limit.
    :param objects_per_second: likewise.
    :raises ConfigurationError: if one is not above 0, or infinite.
    """

    def __init__(self, bytes_per_second: float | None = None, objects_per_second: float | None = None) -> None:
        for name, rate in (("bytes_per_second", bytes_per_second), ("objects_per_second", objects_per_second)):
            if rate is not None and not 0 < rate < inf:
                raise ConfigurationError(f"{name} must be above 0, and finite, not {rate!r}; leave it out for no limit")
        self.bytes_per_second, self.objects_per_second = bytes_per_second, objects_per_second
        self._began = self._due = 0.0

    def shared(self, workers: int) -> dict[str, float | None]:
        """The share of one of several that work at once: the arguments of its pace.

        >>> Pace(bytes_per_second=100).shared(4)
        {'bytes_per_second': 25.0, 'objects_per_second': None}
        """
        return {
            "bytes_per_second": self.bytes_per_second and self.bytes_per_second / workers,
            "objects_per_second": self.objects_per_second and self.objects_per_second / workers,
        }

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.bytes_per_second is not None or self.objects_per_second is not None

    def most_objects(self, limit: int) -> int:
        """How many objects are copied before the next pause."""
        rate = self.objects_per_second
        return limit if rate is None else max(1, min(limit, int(rate)))

    def most_bytes(self, limit: int) -> int:
        """Likewise bytes; an object that has more is copied by itself."""
        rate = self.bytes_per_second
        return limit if rate is None else max(1, min(limit, int(rate)))

    def seconds_for(self, objects: int, size: int) -> float:
        """How long so much should take.

        >>> Pace(bytes_per_second=100, objects_per_second=2).seconds_for(3, 1000)
        10.0
        """
        return max(size / (self.bytes_per_second or inf), objects / (self.objects_per_second or inf))

    def wait(self, pool: WorkerPool) -> None:
        """Wait until as much time has passed as was due for what was copied."""
        while (left := self._due - time.monotonic()) > 0:
            off_loop(pool, partial(time.sleep, min(left, _NAP)))

    def begin(self, pool: WorkerPool) -> None:
        """Wait until it is time to go on: copying begins now."""
        self.wait(pool)
        self._began = time.monotonic()

    def did(self, objects: int, size: int) -> None:
        """Note what was copied since then."""
        self._due = self._began + self.seconds_for(objects, size)
