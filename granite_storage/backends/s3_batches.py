"""Requests to S3 that stand for up to a thousand objects each: listing and batch delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from itertools import islice
from typing import Any

from granite_storage.backends.base import DeleteFailure, ObjectInfo
from granite_storage.backends.listing import is_location
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import BackendError, StorageError
from granite_storage.refs import StoredObjectRef

__all__ = ["delete_in_batches", "list_objects"]

_BATCH = 1000
_GONE = {"NoSuchKey", "404"}


def list_objects(
    client: Any, target: Mapping[str, Any], root: str, folder: str, start_after: str | None
) -> Iterator[ObjectInfo]:
    """The objects in ``folder`` in byte order, a page of a thousand at a time.

    :param target: ``Bucket`` and further arguments of the requests.
    :param root: what precedes locations in the bucket: with a slash at its end, or empty.
    :param folder: with a slash at its end, or empty.
    """
    request = {**target, "Prefix": root + folder, "MaxKeys": _BATCH}
    if start_after:
        request["StartAfter"] = root + start_after
    while True:
        with s3_errors(target["Bucket"], folder, "listing"):
            page = client.list_objects_v2(**request)
        for found in page.get("Contents", ()):
            location = found["Key"][len(root) :]
            if is_location(location):
                yield ObjectInfo(location, found["Size"], found["LastModified"].astimezone(UTC))
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def delete_in_batches(
    client: Any, target: Mapping[str, Any], keys: Sequence[tuple[str, StoredObjectRef]]
) -> list[DeleteFailure]:
    """Delete objects by their keys, a thousand in a request; gives those that could not be deleted."""
    failures: list[DeleteFailure] = []
    rest = iter(keys)
    while batch := dict(islice(rest, _BATCH)):
        first = next(iter(batch.values())).location
        wanted = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
        try:
            with s3_errors(target["Bucket"], first, "deleting a batch from"):
                answer = client.delete_objects(**target, Delete=wanted)
        except StorageError as error:
            failures += [DeleteFailure(ref, error) for ref in batch.values()]
            continue
        for refusal in answer.get("Errors", ()):
            code, ref = refusal.get("Code"), batch.get(refusal.get("Key", ""))
            if ref is not None and code not in _GONE:
                reason = f"{code} ({refusal.get('Message') or 'no reason given'})"
                message = f"deleting {ref.location!r} in bucket {target['Bucket']!r} failed: {reason}"
                failures.append(DeleteFailure(ref, BackendError(message)))
    return failures
