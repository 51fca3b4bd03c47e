"""Copies: the backend makes them by itself where it can, without the bytes passing through here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, cast

from granite_storage.backends.base import Ability, CopyBackend, has_ability
from granite_storage.intake.upload import Upload
from granite_storage.locations import new_location
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef
from granite_storage.storing import put_upload, settings_argument

if TYPE_CHECKING:
    from granite_storage.backends.base import StorageBackend
    from granite_storage.files import StoredFile
    from granite_storage.manager import StorageManager

__all__ = ["copy_file"]


def copy_file(
    manager: StorageManager, file: StoredFile, policy: StoragePolicy, backend: StorageBackend
) -> StoredObjectRef:
    """Copy a file to a fresh location under ``policy``, whose backend is ``backend``; by itself where it can do that.

    :raises ObjectNotFoundError: if the object is missing.
    :raises InvalidUploadError: if the policy refuses the content.
    """
    ref = _copy_inside(manager, file, policy)
    if ref is not None:
        return ref
    with file.open() as stream:
        upload = Upload(stream, file.filename, file.content_type, file.extra or None)
        return put_upload(backend, policy, upload, lambda accepted: new_location(policy.prefix, accepted.suffix))


def _copy_inside(manager: StorageManager, file: StoredFile, policy: StoragePolicy) -> StoredObjectRef | None:
    """Let the backend copy a file to a fresh location under ``policy``.

    :returns: the copy's ref; None if the backend cannot, or if the policy has to see the bytes first.
    :raises ObjectNotFoundError: if the object is missing.
    """
    ref = file.ref
    backend = file.manager.backend_of(ref)
    if backend is not manager.get_backend_for_policy(policy) or not has_ability(backend, Ability.COPY):
        return None
    if ref.storage_key != policy.storage_key or not ref.checksum.startswith(policy.checksum + ":"):
        return None
    location = new_location(policy.prefix, PurePosixPath(ref.location).suffix)
    cast("CopyBackend", backend).copy(
        ref, key=location, content_type=ref.content_type, **settings_argument(backend, policy)
    )
    return ref.replace(
        backend=policy.backend_key,
        location=location,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
