"""Storing an accepted upload: one pass from its source into a backend, and the ref that comes of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from granite_storage.backends.base import Ability, StorageBackend, has_ability
from granite_storage.deletion import discard
from granite_storage.exceptions import BackendError, NotSupportedError
from granite_storage.intake.accept import Accepted, accept
from granite_storage.intake.upload import Upload
from granite_storage.locations import check_location
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef

__all__ = ["encryption_problem", "location_of_0_1", "put_upload", "settings_argument"]


def put_upload(
    backend: StorageBackend, policy: StoragePolicy, upload: Upload, locate: Callable[[Accepted], str]
) -> StoredObjectRef:
    """Accept an upload under a policy, store it where ``locate`` says, and give its ref.

    :raises StorageError: what is wrong with the upload, or with the backend; nothing stays behind then.
    """
    settings = settings_argument(backend, policy)
    with accept(upload, policy) as accepted:
        location = locate(accepted)
        ref = StoredObjectRef(  # made before a byte is stored, so that what no ref could say is refused at once
            policy.storage_key,
            policy.backend_key,
            location,
            0,
            "",
            accepted.content_type,
            accepted.filename,
            datetime.now(UTC).isoformat(timespec="microseconds"),
            accepted.extra,
        )
        put = backend.put_stream(
            key=location,
            stream=accepted.stream,
            size=accepted.size_hint,
            content_type=accepted.content_type,
            original_filename=accepted.filename,
            extra=accepted.extra,
            **settings,
        )
        try:
            if not accepted.finished and accepted.stream.read(1):
                raise BackendError(
                    f"backend {policy.backend_key!r} took only a part of the content at {location!r}; nothing was kept"
                )
            return ref.replace(
                location=put.location,
                size=accepted.size,
                checksum=accepted.checksum,
                extra={**(put.extra or {}), **(accepted.extra or {})} or None,
            )
        except BaseException:
            discard(backend, put)
            raise


def settings_argument(backend: StorageBackend, policy: StoragePolicy) -> dict[str, Any]:
    """The argument ``settings`` of a put or copy; none if the policy has no settings, or the backend takes none.

    :raises NotSupportedError: if the backend takes none and the policy asks for encryption.
    """
    if policy.settings and has_ability(backend, Ability.OBJECT_SETTINGS):
        return {"settings": policy.settings}
    problem = encryption_problem(backend, policy)
    if problem is not None:
        raise NotSupportedError(problem)
    return {}


def encryption_problem(backend: StorageBackend, policy: StoragePolicy) -> str | None:
    """What is wrong if a policy promises encryption that its backend cannot give; of other settings nothing depends."""
    if policy.encryption is None or has_ability(backend, Ability.OBJECT_SETTINGS):
        return None
    return (
        f"policy {policy.storage_key!r} says encryption={policy.encryption!r}, and backend {policy.backend_key!r} "
        "cannot encrypt: encrypt its disk, and leave encryption out of the policy where this backend is used"
    )


def location_of_0_1(policy: StoragePolicy, model_name: str, entity_id: object, accepted: Accepted) -> str:
    """A location as granite-storage 0.1.0 made them, of names that the application gave, made harmless."""
    prefix = (policy.key_prefix or "").strip("/")
    folder, name = (re.sub(r"[^\w.-]|^\.+", "_", str(part), flags=re.ASCII) for part in (model_name, entity_id))
    location = f"{folder}/{name}-{secrets.token_hex(4)}{accepted.suffix}"
    return check_location(f"{prefix}/{location}" if prefix else location)
