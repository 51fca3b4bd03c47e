"""Purging: deleting all that a versioned bucket keeps of a key, its old versions and its delete markers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from granite_storage.backends.s3_deleting import BucketDeletes, Failures, Version, side_by_side
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import StorageError

__all__ = ["purge"]

_LISTINGS_AT_ONCE = 8


@dataclass(slots=True)
class _Kept:
    """What a bucket keeps of one key."""

    versions: list[Version] = field(default_factory=list)
    markers: list[Version] = field(default_factory=list)
    hidden: bool = False
    """Whether the latest of them is a marker, so that there is no object at the key."""
    error: StorageError | None = None


def purge(
    client: Callable[[], Any], target: Mapping[str, Any], deletes: BucketDeletes, keys: Sequence[str]
) -> dict[str, StorageError]:
    """Delete all versions and markers of keys; gives those of which something stays, and why.

    Markers go last, and only where all versions went: without them an old version would be the object again. Where one
    stays (object lock, a missing permission), the key gets a marker, as by an ordinary delete.

    The user needs ``s3:ListBucketVersions`` and ``s3:DeleteObjectVersion``.

    :param target: ``Bucket`` and further arguments of the requests.
    """
    kept = dict(zip(keys, side_by_side(partial(_kept, client, target), keys, _LISTINGS_AT_ONCE), strict=True))
    failures = {key: one.error for key, one in kept.items() if one.error is not None}
    failures |= _by_key(deletes.many(version for one in kept.values() for version in one.versions))
    hide: list[Version] = [(key, None) for key in failures if kept[key].error is None and not kept[key].hidden]
    deletes.many(hide)  # if this fails, too, the first failure says why
    return failures | _by_key(
        deletes.many(marker for key, one in kept.items() if key not in failures for marker in one.markers)
    )


def _kept(client: Callable[[], Any], target: Mapping[str, Any], key: str) -> _Kept:
    kept = _Kept()
    try:
        for found, is_marker in _listed(client(), target, key):
            (kept.markers if is_marker else kept.versions).append((key, found["VersionId"]))
            kept.hidden |= is_marker and found["IsLatest"]
    except StorageError as error:
        kept.error = error
    return kept


def _listed(client: Any, target: Mapping[str, Any], key: str) -> Iterator[tuple[Any, bool]]:
    request = {**target, "Prefix": key}
    while True:
        with s3_errors(target["Bucket"], key, "listing the versions of"):
            page = client.list_object_versions(**request)
        for member, is_marker in (("Versions", False), ("DeleteMarkers", True)):
            for found in page.get(member, ()):
                if found["Key"] == key:  # its neighbours begin with it, too
                    yield found, is_marker
        # In byte order the versions of the key itself come first.
        if not page.get("IsTruncated") or page.get("NextKeyMarker", "") != key:
            return
        request |= {"KeyMarker": key, "VersionIdMarker": page.get("NextVersionIdMarker", "")}


def _by_key(failures: Failures) -> dict[str, StorageError]:
    return {key: error for (key, _), error in failures.items()}
