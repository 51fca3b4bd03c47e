"""URLs of stored objects: presigned by the backend, or below the public base URL of their policy."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from granite_storage.backends.base import Ability, PresignBackend, has_ability
from granite_storage.exceptions import InvalidURLError, NotSupportedError
from granite_storage.intake.media_types import OCTET_STREAM
from granite_storage.serving import check_content_type, content_disposition, is_inline

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.refs import StoredObjectRef

__all__ = ["url_of"]

_EXPIRES = 3600


def url_of(
    manager: StorageManager,
    ref: StoredObjectRef,
    *,
    expires: timedelta | float | None,
    download: bool,
    filename: str | None,
    content_type: str | None,
) -> str:
    """The URL of a ref's object; :meth:`StorageManager.url` tells the rest."""
    key, location = manager.identity(ref)
    backend = manager.backends[key]
    if not has_ability(backend, Ability.PRESIGN):
        raise NotSupportedError(
            f"backend {key!r} is not able to make URLs: serve the file through the application, with open() or "
            "iter_bytes(), or keep it in a backend with the ability PRESIGN, such as S3"
        )
    for name, value in (("filename", filename), ("content_type", content_type)):
        if value is not None and not isinstance(value, str):
            raise InvalidURLError(f"no URL of {location!r} can be: {name} is a str, not {type(value).__name__}")
    presigning = cast("PresignBackend", backend)
    policy = manager.policies.get(ref.storage_key)
    as_stored = expires is None and filename is None and content_type is None and not download
    url = None if policy is None or not manager.same_store(policy.backend_key, key) else policy.public_url
    if as_stored and url is not None:
        return f"{url}/{quote(presigning.object_path(ref))}"
    kind = _stored_type(ref)
    if content_type is not None:
        try:
            served = check_content_type(content_type)
        except ValueError as error:
            raise InvalidURLError(f"no URL of {location!r} can be: content_type: {error}") from error
        # Inline only if both are harmless: the type that the bytes were accepted as, which is judged here, and the one
        # they are served as, which the disposition judges.
        kind, download = served, download or not is_inline(kind)
    return presigning.presign_get(
        ref,
        expires=_seconds(_EXPIRES if expires is None else expires),
        content_type=kind,
        content_disposition=content_disposition(kind, filename or ref.original_filename, download=download),
    )


def _stored_type(ref: StoredObjectRef) -> str:
    try:
        return check_content_type(ref.content_type or OCTET_STREAM)
    except ValueError:  # 0.1.0 recorded what clients claimed, whatever it was
        return OCTET_STREAM


def _seconds(expires: timedelta | float) -> int:
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if type(seconds) not in (int, float) or not 1 <= seconds < float("inf"):  # no bool, no NaN
        raise InvalidURLError(f"expires is a timedelta or a number of seconds, 1 or more, not {expires!r}")
    return int(seconds)
