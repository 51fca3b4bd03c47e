"""Multipart uploads that nobody will complete: they are in no listing of objects, and cost money until aborted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from granite_storage.backends.base import in_folder
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import BackendError, InvalidLocationError
from granite_storage.locations import check_location

__all__ = ["abort_uploads"]


def abort_uploads(
    client: Any,
    target: Mapping[str, Any],
    root: str,
    before: datetime,
    prefixes: Collection[str] | None = None,
    *,
    dry_run: bool,
) -> int:
    """Abort the multipart uploads below ``root`` that began before ``before``; gives how many.

    Only keys that are locations count: the others are another program's.

    :param target: ``Bucket`` and further arguments of the requests.
    :param root: what precedes locations in the bucket: with a slash at its end, or empty.
    :param prefixes: only those to locations in these folders; by default in all.
    :raises BackendError: if the server or the network fails.
    """
    count = 0
    for key, upload in _began_before(client, target, root, before):
        location = key[len(root) :]
        if prefixes is not None and not any(in_folder(location, prefix) for prefix in prefixes):
            continue
        if not dry_run:
            with (
                s3_errors(target["Bucket"], location, "aborting an upload to"),
                suppress(client.exceptions.NoSuchUpload),  # completed, or aborted, meanwhile
            ):
                client.abort_multipart_upload(**target, Key=key, UploadId=upload)
        count += 1
    return count


def _began_before(client: Any, target: Mapping[str, Any], root: str, before: datetime) -> Iterator[tuple[str, str]]:
    request = {**target, "Prefix": root}
    while True:
        with s3_errors(target["Bucket"], root, "listing the unfinished uploads below"):
            page = _page(client, request)
        for found in page.get("Uploads", ()):
            # A server may answer with more than was asked for; nothing else's upload is ever aborted.
            if (
                found["Initiated"] < before
                and found["Key"].startswith(root)
                and _is_location(found["Key"][len(root) :])
            ):
                yield found["Key"], found["UploadId"]
        if not page.get("IsTruncated"):
            return
        told = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        if not all(told.values()) or told.items() <= request.items():
            raise BackendError(
                f"listing the unfinished uploads below {root!r} in bucket {target['Bucket']!r} failed: the server does "
                "not say how it goes on"
            )
        request |= told


def _page(client: Any, request: Mapping[str, Any]) -> Any:
    from botocore.exceptions import ClientError

    try:
        return client.list_multipart_uploads(**request)
    except client.exceptions.NoSuchUpload:
        return {}  # so says rclone where there is none
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (405, 501):
            raise
        raise BackendError(
            f"the server of bucket {request['Bucket']!r} does not list unfinished uploads; set leftovers=false, and "
            "let a lifecycle rule of the bucket abort them"
        ) from error


def _is_location(name: str) -> bool:
    try:
        check_location(name)
    except InvalidLocationError:
        return False
    return True
