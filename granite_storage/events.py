"""Events: what happens to objects, as it happens, for metrics, traces and logs.

::

    manager.on_event(lambda event: BYTES.labels(event.kind, event.policy).inc(event.bytes))

Each event is also a record of the logger ``granite_storage.events`` (INFO; WARNING for what failed, but a store),
whose attribute ``storage`` is :meth:`StorageEvent.to_dict`, for formatters that write JSON.

Events tell what was *done*, also for rows that are rolled back afterwards; what a transaction did in the end is what
observers are told (:mod:`granite_storage.observing`). They never hold a filename, a URL or a token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.policies import StoragePolicy

__all__ = ["EventHook", "Events", "StorageEvent", "failed_event"]

_log = logging.getLogger("granite_storage")
_events_log = logging.getLogger("granite_storage.events")


@dataclass(frozen=True, slots=True)
class StorageEvent:
    """One thing that happened.

    :param kind: ``stored`` (also by a copy or a claim), ``deleted``, ``failed`` (``doing`` says what), ``moved`` to
        another policy, ``swept`` or ``collected`` (one for a whole sweep or garbage collection that was no dry run).
    :param policy: the policy's name; empty for a whole sweep or collection.
    :param backend: the manager's name of the backend.
    :param location: where the object is; empty where there is none yet, or where many are meant.
    :param bytes: its size; of many the sum, as far as it is known.
    :param seconds: how long it took. Of objects that were deleted in one batch each has its share.
    :param objects: how many objects.
    :param doing: what failed: ``store``, ``delete`` or ``move``.
    :param error: the class of the error, such as ``ContentTooLargeError``; its ``http_status`` tells whose fault it is.

    >>> StorageEvent("stored", "documents", "s3", "docs/2026/11/25/x.pdf", 12, 0.25)
    StorageEvent(kind='stored', policy='documents', backend='s3', location='docs/2026/11/25/x.pdf', bytes=12, ...)
    """

    kind: Literal["stored", "deleted", "failed", "moved", "swept", "collected"]
    policy: str
    backend: str = ""
    location: str = ""
    bytes: int = 0
    seconds: float = 0.0
    objects: int = 1
    doing: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; empty ones are left out."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in told.items() if value != ""}


def failed_event(doing: str, policy: str, backend: str, error: Exception, began: float) -> StorageEvent:
    """Something failed.

    :param began: when that began, by :func:`time.perf_counter`.
    """
    seconds = perf_counter() - began
    return StorageEvent("failed", policy, backend, seconds=seconds, doing=doing, error=type(error).__name__)


EventHook = Callable[[StorageEvent], object]
"""Called with each event, from the thread that did it, several at once perhaps: it must not block.

What it raises is logged, and changes nothing for anybody.
"""


class Events:
    """Whom a manager tells."""

    def __init__(self) -> None:
        self.hooks: list[EventHook] = []

    @property
    def wanted(self) -> bool:
        """Whether anybody listens, so that an event is worth making."""
        return bool(self.hooks) or _events_log.isEnabledFor(logging.INFO)

    def storing(self, policy: StoragePolicy, store: Callable[[], StoredObjectRef]) -> StoredObjectRef:
        """Store under a policy by a function that gives the ref, and tell whether it did or failed."""
        began = perf_counter()
        try:
            ref = store()
        except Exception as error:
            self.tell(failed_event("store", policy.storage_key, policy.backend_key, error, began))
            raise
        if self.wanted:
            seconds = perf_counter() - began
            self.tell(StorageEvent("stored", ref.storage_key, ref.backend, ref.location, ref.size, seconds))
        return ref

    def tell(self, event: StorageEvent, detail: str = "") -> None:
        """Log an event and call the hooks in order.

        :param detail: what a person wants to know besides.
        """
        # who stores is told by an exception, and many of those are somebody's too large upload
        level = logging.WARNING if event.kind == "failed" and event.doing != "store" else logging.INFO
        if _events_log.isEnabledFor(level):
            place = f"{event.backend}:{event.location}" if event.location else event.policy
            _events_log.log(level, "%s", _line(event, place, detail), extra={"storage": event.to_dict()})
        for hook in tuple(self.hooks):
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - it is the application's, and what happened has happened
                _log.warning("an event hook of the storage manager failed", exc_info=True)


def _line(event: StorageEvent, place: str, detail: str) -> str:
    if event.kind == "failed":
        return f"could not {event.doing} {place}: {detail or event.error}"
    return detail or f"{event.kind} {place}"
