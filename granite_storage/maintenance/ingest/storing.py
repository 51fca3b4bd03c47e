"""Storing the values of one batch, side by side, before any row is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, StatBackend, has_ability
from granite_storage.deletion import delete_objects
from granite_storage.exceptions import (
    ChecksumMismatchError,
    InvalidLocationError,
    InvalidRefError,
    InvalidUploadError,
    ObjectNotFoundError,
)
from granite_storage.files import StoredFile
from granite_storage.orm.greenlets import off_loop, run_side_by_side
from granite_storage.orm.pending import put_groups
from granite_storage.verifying import check_size

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.kinds import Kind, Row
    from granite_storage.maintenance.ingest.old_values import OldValue
    from granite_storage.manager import StorageManager
    from granite_storage.refs import StoredObjectRef

__all__ = ["ROW_ERRORS", "discard", "store_values"]

ROW_ERRORS = (
    InvalidUploadError,
    InvalidRefError,
    InvalidLocationError,
    ObjectNotFoundError,
    ChecksumMismatchError,
    UnicodeError,
)
"""What is wrong with one row, and says nothing about the others; any other error ends the conversion."""


def store_values(
    manager: StorageManager, kind: Kind, values: Mapping[Row, OldValue]
) -> tuple[dict[Row, StoredObjectRef], dict[Row, Exception]]:
    """Store values, and see that the store has them; gives their refs, and what was wrong with the others.

    :raises StorageError: if the store fails; what was stored is deleted then.
    """
    refs: dict[Row, StoredObjectRef] = {}
    errors: dict[Row, Exception] = {}
    policy = kind.conversion.policy

    def store(row: Row, value: OldValue) -> None:
        try:
            with kind.upload(row, value) as upload:
                refs[row] = manager.store_upload(policy, upload)
            refs[row] = kind.finished(refs[row], value)
        except ROW_ERRORS as error:
            errors[row] = error

    try:
        with put_groups(manager, {policy}):
            run_side_by_side(manager.pool, [partial(store, row, value) for row, value in values.items()])
        discard(manager, [refs.pop(row) for row in errors if row in refs])
        checks = [partial(_check, manager, ref, kind.conversion.verify) for ref in refs.values()]
        run_side_by_side(manager.pool, checks)
    except BaseException:
        discard(manager, refs.values())
        raise
    return {row: refs[row] for row in values if row in refs}, errors


def discard(manager: StorageManager, refs: Iterable[StoredObjectRef]) -> None:
    """Delete objects that were stored here and that no row was given: nobody else knows their locations."""
    unwanted = list(refs)
    if unwanted:
        off_loop(manager.pool, partial(delete_objects, manager, unwanted))


def _check(manager: StorageManager, ref: StoredObjectRef, verify: bool) -> None:
    """Whether the store has an object, as long as its ref says."""
    backend = manager.backend_of(ref)
    if verify:
        StoredFile(manager, ref).verify()
    elif has_ability(backend, Ability.STAT):
        check_size(ref, cast("StatBackend", backend).stat(ref).size)
    elif not backend.exists(ref):
        raise ObjectNotFoundError(f"no object is at {ref.location!r}, where it was stored a moment ago")
