"""The ref that a backend hands back for what it stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from granite_storage.refs import StoredObjectRef

__all__ = ["new_ref"]


def new_ref(
    backend_name: str,
    location: str,
    *,
    size: int | None = None,
    checksum: str | None = None,
    content_type: str | None = None,
    original_filename: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> StoredObjectRef:
    """A ref with an empty storage key, made now.

    Backends make it *before* they store anything: what could not be recorded must not be stored.

    :param size: bytes, or what is known of it so far.
    :param checksum: ``"<algorithm>:<hex digest>"`` where the caller knows it; empty otherwise.
    :raises InvalidRefError: naming the member that could not be recorded.

    >>> new_ref("memory", "docs/a.txt", size=5).location
    'docs/a.txt'
    """
    return StoredObjectRef(
        storage_key="",
        backend=backend_name,
        location=location,
        size=size or 0,
        checksum=checksum or "",
        content_type=content_type,
        original_filename=original_filename,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        extra=dict(extra) if extra else None,
    )
