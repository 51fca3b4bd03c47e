"""Stopping what runs in another thread: a transfer whose task was cancelled goes no further.

A thread cannot be interrupted from outside; but a transfer reads one piece after the other, and between two of them it
can be told that nobody wants it any more.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from granite_storage.exceptions import StorageError

__all__ = ["check_stop", "watch_stop"]

_stopping: ContextVar[threading.Event | None] = ContextVar("granite_storage.stopping", default=None)


def watch_stop(stopping: threading.Event) -> None:
    """Have :func:`check_stop` raise, in this context, once ``stopping`` is set."""
    _stopping.set(stopping)


def check_stop() -> None:
    """Between two reads of a source, or of a stored object.

    :raises StorageError: if the task that waits for it was cancelled; it sees its ``CancelledError`` instead.
    """
    stopping = _stopping.get()
    if stopping is not None and stopping.is_set():
        raise StorageError("the transfer was given up: the task that waits for it was cancelled")
