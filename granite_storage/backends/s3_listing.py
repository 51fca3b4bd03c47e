"""Listing a bucket: pages of a thousand, in byte order, checked against what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from granite_storage.backends.base import ObjectInfo
from granite_storage.backends.listing import is_listed
from granite_storage.backends.s3_answers import ask
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import BackendError

__all__ = ["list_objects"]

_PAGE = 1000  # S3's most
_MEMBERS = ("Key", "Size", "LastModified")


def list_objects(
    client: Any, target: Mapping[str, Any], root: str, folder: str, start_after: str | None = None, *, ordered: bool
) -> Iterator[ObjectInfo]:
    """The objects in ``folder``, a page at a time.

    Nothing is given that was not asked for, whatever the server lists.

    :param target: ``Bucket`` and further arguments of the requests.
    :param root: what precedes locations in the bucket: with a slash at its end, or empty.
    :param folder: with a slash at its end, or empty.
    :param ordered: whether the caller counts on byte order (UTF-8).
    :raises BackendError: if the server or the network fails; if the listing cannot go on; if it is to be ordered and
        is not: S3 Express, for one, has no order.
    """
    prefix, bucket = root + folder, target["Bucket"]
    after = root + start_after if start_after else ""
    request = {**target, "Prefix": prefix, "MaxKeys": _PAGE}
    if after:
        request["StartAfter"] = after
    previous = ""
    while True:
        with s3_errors(bucket, folder, "listing"):
            page = _Page(client, request)
        for key, size, modified in page:
            # Python compares texts by code points, which is the order of UTF-8.
            if not key.startswith(prefix) or key <= after:
                continue
            if ordered and key <= previous:
                raise BackendError(
                    f"the server of bucket {bucket!r} lists {key!r} after {previous!r}, which is not byte order; "
                    "sweep and gc cannot be sure of what such a server has. Set ordered_listing=false"
                )
            previous = key
            location = key[len(root) :]
            if is_listed(location, folder):
                yield ObjectInfo(location, size, modified)
        if not page.truncated:
            return
        if not page.token or page.token == request.get("ContinuationToken"):
            raise BackendError(
                f"listing {folder!r} in bucket {bucket!r} failed: the server does not say how it goes on"
            )
        request.pop("StartAfter", None)  # the token says it, and a server that heeds both may begin anew
        request["ContinuationToken"] = page.token


class _Page:
    """One answer to ListObjectsV2: its keys, sizes (bytes) and times (UTC)."""

    def __init__(self, client: Any, request: dict[str, Any]) -> None:
        self._answer, self._found = ask(client, "ListObjectsV2", request, "Contents", *_MEMBERS)
        self.truncated: bool = self._answer.get("IsTruncated", False)
        self.token: str | None = self._answer.get("NextContinuationToken")

    def __iter__(self) -> Iterator[tuple[str, int, datetime]]:
        for one in self._answer.get("Contents", ()):
            yield one["Key"], one["Size"], one["LastModified"].astimezone(UTC)
        encoded = self._answer.get("EncodingType") == "url"  # botocore asks for it: XML cannot carry every key
        for key, size, modified in self._found:
            location = unquote_plus(key) if encoded else key
            try:
                yield location, int(size), _instant(modified)
            except ValueError as error:
                message = f"the server lists {location!r} with the size {size!r} and the time {modified!r}"
                raise BackendError(message) from error


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)
