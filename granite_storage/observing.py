"""Observers: who wants to know what transactions and the manager itself did to objects, such as a test or a metric.

::

    manager.observers.append(lambda change: metrics.count(len(change.stored)))

An observer is a callable that takes a :class:`StorageChange`. It is called

* by a session's root transaction as it ends, once, before anything freed or discarded is deleted, in the thread of
  whoever ended it; with an AsyncSession that is the event loop's, so that it must not block. A transaction whose COMMIT
  got no answer tells nothing: nobody knows how it ended;
* by ``store``, ``copy``, ``put_bytes`` and ``put_stream`` of the manager, in the thread that stored; with the awaited
  ones that is a thread of the pool, so that several calls may come at once.

What an observer raises is logged, and changes nothing for anybody: the commit is durable by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from granite_storage.refs import StoredObjectRef

__all__ = ["Observer", "StorageChange", "tell"]

_log = logging.getLogger("granite_storage")


@dataclass(frozen=True, slots=True)
class StorageChange:
    """What one root transaction, or one call of the manager, did to objects.

    :param stored: what was stored for rows that are committed, or by the call; in the order of the flushes and fields.
    :param freed: what committed rows stopped naming. Of a very large bulk statement it may be a part.
    :param discarded: what was stored for rows that never were, because of a rollback.
    :param durable: False while a transaction around the session's own (on an external connection) still decides.

    >>> StorageChange().stored, StorageChange().durable
    ((), True)
    """

    stored: tuple[StoredObjectRef, ...] = ()
    freed: tuple[StoredObjectRef, ...] = ()
    discarded: tuple[StoredObjectRef, ...] = ()
    durable: bool = True


Observer = Callable[[StorageChange], object]
"""Called with each change."""


def tell(observers: Iterable[Observer], change: StorageChange) -> None:
    """Call observers in order; what one raises is logged, and the next is called."""
    for observer in tuple(observers):
        try:
            observer(change)
        except Exception:  # noqa: BLE001 - it is the application's, and the commit must not seem to fail
            _log.warning("an observer of the storage manager failed", exc_info=True)
