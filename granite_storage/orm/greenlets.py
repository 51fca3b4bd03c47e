"""Blocking work below an AsyncSession: it runs in the manager's threads, and the event loop stays free."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from granite_storage.aio import WorkerPool

__all__ = ["awaiting", "off_loop", "run_side_by_side"]

_T = TypeVar("_T")


def off_loop(pool: WorkerPool, call: Callable[[], _T]) -> _T:
    """Call something that blocks: in a thread of the pool if an AsyncSession waits for it, else right here.

    A task that is cancelled meanwhile sees its ``CancelledError`` only once the call has ended: what holds while it
    runs (row locks, an open ledger) must not be let go of while a thread still deletes objects.
    """
    if not awaiting():
        return call()
    results: list[_T] = []
    run_side_by_side(pool, [lambda: results.append(call())])
    return results[0]


def run_side_by_side(pool: WorkerPool, calls: Iterable[Callable[[], Any]]) -> None:
    """As :meth:`WorkerPool.run_all`; if an AsyncSession waits for it, with the event loop free.

    A task that is cancelled meanwhile sees its ``CancelledError`` once no call is running any more.
    """
    if not awaiting():
        pool.run_all(calls)
        return
    from sqlalchemy.util.concurrency import await_only

    await_only(pool.arun_all(calls))


def awaiting() -> bool:
    """Whether an AsyncSession waits for what runs here: SQLAlchemy's greenlet bridge is below us, and can await."""
    if "greenlet" not in sys.modules:  # not installed, perhaps; SQLAlchemy raises then
        return False
    from sqlalchemy.util.concurrency import in_greenlet

    return in_greenlet()
