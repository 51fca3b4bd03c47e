"""Deleting objects that are nobody's: in batches where the backend can, one by one elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, BatchDeleteBackend, DeleteFailure, StorageBackend, has_ability
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager

__all__ = ["delete_objects"]

_log = logging.getLogger("granite_storage")


def delete_objects(manager: StorageManager, refs: Iterable[StoredObjectRef]) -> list[DeleteFailure]:
    """Delete objects; those that could not be are logged and given back. No row is asked: the caller did."""
    by_backend: dict[str, list[StoredObjectRef]] = {}
    for ref in refs:
        by_backend.setdefault(manager.identity(ref)[0], []).append(ref)
    failures: list[DeleteFailure] = []
    for name, group in by_backend.items():
        failures += _delete(manager.backends[name], group)
    for failure in failures:
        _log.warning("could not delete %s:%s: %r", failure.ref.backend, failure.ref.location, failure.error)
    return failures


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
