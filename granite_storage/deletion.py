"""Deleting objects that are nobody's: in batches where the backend can, one by one elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, BatchDeleteBackend, DeleteFailure, StorageBackend, has_ability
from granite_storage.events import StorageEvent
from granite_storage.exceptions import StorageError
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager

__all__ = ["delete_object", "delete_objects", "discard", "told"]

_log = logging.getLogger("granite_storage")


def delete_object(manager: StorageManager, ref: StoredObjectRef) -> None:
    """Delete one object, and tell of it; see :meth:`granite_storage.StorageManager.delete`."""
    began = perf_counter()
    try:
        manager.check_owner(ref)
        manager.backend_of(ref).delete(ref)
    except Exception as error:
        _tell_failed(manager, DeleteFailure(ref, error), perf_counter() - began)
        raise
    _tell_deleted(manager, manager.identity(ref)[0], ref, perf_counter() - began)


def delete_objects(manager: StorageManager, refs: Iterable[StoredObjectRef]) -> list[DeleteFailure]:
    """Delete objects; those that could not be are logged and given back. No row is asked: the caller did."""
    by_backend: dict[str, list[StoredObjectRef]] = {}
    failures: list[DeleteFailure] = []
    for ref in refs:
        try:
            manager.check_owner(ref)
        except StorageError as error:
            failures.append(DeleteFailure(ref, error))
        else:
            by_backend.setdefault(manager.identity(ref)[0], []).append(ref)
    for failure in failures:
        _tell_failed(manager, failure, 0.0)
    for name, group in by_backend.items():
        began = perf_counter()
        failed = _delete(manager.backends[name], group)
        share = (perf_counter() - began) / len(group)
        kept = {(failure.ref.backend, failure.ref.location) for failure in failed}
        for ref in group if manager.events.wanted else ():
            if (ref.backend, ref.location) not in kept:
                _tell_deleted(manager, name, ref, share)
        for failure in failed:
            _tell_failed(manager, failure, share)
        failures += failed
    return failures


def _tell_deleted(manager: StorageManager, backend: str, ref: StoredObjectRef, seconds: float) -> None:
    manager.events.tell(StorageEvent("deleted", ref.storage_key, backend, ref.location, ref.size, seconds))


def _tell_failed(manager: StorageManager, failure: DeleteFailure, seconds: float) -> None:
    ref, error = failure.ref, type(failure.error).__name__
    event = StorageEvent(
        "failed", ref.storage_key, ref.backend, ref.location, ref.size, seconds, doing="delete", error=error
    )
    manager.events.tell(event, told(failure.error))


def discard(backend: StorageBackend, ref: StoredObjectRef) -> None:
    """Delete what was stored in vain. A failure is only logged: what made it vain is to come out, not this."""
    try:
        backend.delete(ref)
    except Exception as error:  # noqa: BLE001
        _log.warning("an object that is not kept could not be deleted, a sweep will: %s: %s", ref.location, told(error))


def told(error: Exception) -> str:
    """What may be written down of an error: our own say nothing secret, of others nobody knows."""
    return str(error)[:500] if isinstance(error, StorageError) else type(error).__name__


def _delete(backend: StorageBackend, refs: list[StoredObjectRef]) -> list[DeleteFailure]:
    if has_ability(backend, Ability.BATCH_DELETE):
        try:
            return cast("BatchDeleteBackend", backend).delete_many(refs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the object it kept
            return [DeleteFailure(ref, error) for ref in refs]
    failures = []
    for ref in refs:
        try:
            backend.delete(ref)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the object it kept
            failures.append(DeleteFailure(ref, error))
    return failures
