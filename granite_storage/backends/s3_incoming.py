"""What browsers uploaded into a bucket: at ``<prefix>/.incoming/<location>``, with ``<location>.claimed`` as the mark.

No listing shows either (:func:`.listing.is_listed`), and no ref can name them. Reads and the copy say ``If-Match``, so
that a browser that uploads again meanwhile changes nothing that was checked; the mark is put with ``If-None-Match: *``,
so that the server decides who was first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Protocol

from granite_storage.backends.base import DeleteFailure, ObjectInfo
from granite_storage.backends.incoming import IncomingObject
from granite_storage.backends.new_ref import new_ref
from granite_storage.backends.s3_checksum import checksum_of
from granite_storage.backends.s3_copy import COPY_IN_PARTS, copy_object
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_head import head_object
from granite_storage.backends.s3_keys import BucketKeys
from granite_storage.backends.s3_ranges import ObjectVersion
from granite_storage.backends.s3_reader import open_version
from granite_storage.exceptions import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError
from granite_storage.locations import INCOMING, location_time
from granite_storage.object_settings import ObjectSettings
from granite_storage.refs import StoredObjectRef

__all__ = ["S3Incoming", "incoming_keys", "remove_incoming"]

_CLAIMED = ".claimed"
_BATCH = 1000
_NEVER = datetime.max.replace(tzinfo=UTC)
_ALGORITHMS = {"sha1": "SHA1", "sha256": "SHA256"}  # hashlib's name -> S3's, of those that both have


def incoming_keys(keys: BucketKeys) -> BucketKeys:
    """The keys of uploads that wait, for the keys of a backend.

    >>> incoming_keys(BucketKeys("bucket", "live/")).target("docs/a")
    {'Bucket': 'bucket', 'Key': 'live/.incoming/docs/a'}
    """
    return BucketKeys(keys.bucket, f"{keys.root}{INCOMING}/")


class Waiting(Protocol):
    """A backend whose locations are those below ``.incoming`` of another."""

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete one."""
        ...

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete several; gives what could not be."""
        ...


class S3Incoming:
    """The place of one upload.

    :param client: gives the boto3 client.
    :param keys: those of the backend.
    :param location: what follows ``.incoming/``.
    :param waiting: the backend as it is below ``.incoming``.
    :param owner: ``RequestPayer`` and ``ExpectedBucketOwner``, where they are set.
    :param arguments: gives the arguments of PutObject for a content type, a filename and settings: those of the copy.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        keys: BucketKeys,
        location: str,
        waiting: Waiting,
        owner: Mapping[str, Any],
        arguments: Callable[[str, str | None, ObjectSettings | None], Mapping[str, Any]],
    ) -> None:
        self._client = client
        self._keys = keys
        self._location = location
        self._owner = owner
        self._arguments = arguments
        self._waiting = waiting
        self._source = incoming_keys(keys).target(location)
        self._mark = incoming_keys(keys).target(location + _CLAIMED)

    def look(self) -> IncomingObject:
        """What is there; raises ObjectNotFoundError."""
        head = self._head(self._source, self._location)
        return IncomingObject(head["ContentLength"], head.get("ContentType"), head["ETag"], _checksums(head))

    def open(self, found: IncomingObject) -> BinaryIO:
        """A seekable stream of ranged reads, each on condition of the ETag."""
        target = {**self._source, **self._owner}
        return open_version(ObjectVersion(self._client, target, self._location, found.size, found.version))

    def copy(
        self,
        found: IncomingObject,
        *,
        key: str,
        content_type: str,
        original_filename: str | None = None,
        checksum: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> StoredObjectRef:
        """Copy it on the server, in parts if it is large; the ref has the checksum that the server computed meanwhile.

        :raises ObjectNotFoundError: if it is gone.
        :raises BackendError: if it is not what was found any more.
        """
        target, arguments = self._keys.target(key), dict(self._arguments(content_type, original_filename, settings))
        # Of a copy in parts there would be one of the parts' checksums.
        algorithm = _ALGORITHMS.get(checksum or "") if found.size <= COPY_IN_PARTS else None
        if algorithm is not None:
            arguments["ChecksumAlgorithm"] = algorithm
        copy_object(
            self._client(),
            self._source,
            target,
            arguments,
            location=self._location,
            overwrite=False,
            if_match=found.version,
        )
        computed = _checksums(self._head(target, key)) if algorithm is not None else {}
        return new_ref(
            "s3",
            key,
            size=found.size,
            checksum=f"{checksum}:{computed[checksum]}" if checksum in computed else None,
            content_type=content_type,
            original_filename=original_filename,
            extra={"bucket": self._keys.bucket},
        )

    def claimed_by(self) -> str | None:
        """The location that is noted in the mark, or None."""
        with (
            suppress(ObjectNotFoundError),
            s3_errors(self._keys.bucket, self._location, "reading the mark of"),
            self._client().get_object(**self._mark, **self._owner)["Body"] as body,
        ):
            noted: bytes = body.read()
            return noted.decode(errors="replace")
        return None

    def mark_claimed(self, location: str) -> None:
        """Put the mark.

        :raises ObjectExistsError: if another is there.
        :raises NotSupportedError: if the server is found not to heed conditions: it could not tell.
        """
        try:
            with s3_errors(self._keys.bucket, self._location, "marking"):
                client, body = self._client(), bytearray(location.encode())
                said = {**self._owner, **checksum_of(client, {}, body), "ContentType": "text/plain"}
                client.put_object(**self._mark, **said, Body=body, IfNoneMatch="*")
        except (ObjectExistsError, BackendUnavailableError):
            # The answer to a put that went through may be lost; the client tries again, and may lose the next, too.
            if self.claimed_by() != location:
                raise

    def delete(self) -> None:
        """Delete the upload; nothing happens if there is none."""
        self._waiting.delete(new_ref("s3", self._location))

    def _head(self, target: Mapping[str, str], location: str) -> Any:
        return head_object(self._client(), {**target, **self._owner, "ChecksumMode": "ENABLED"}, location)


def remove_incoming(
    waiting: Waiting,
    listed: Callable[[str | None], Iterator[ObjectInfo]],
    before: datetime,
    prefixes: Collection[str] | None,
    *,
    dry_run: bool,
) -> int:
    """Delete the uploads and marks older than ``before``, both by their location and by the store; gives how many.

    :param waiting: the backend as it is below ``.incoming``.
    :param listed: gives its objects in a folder, in any order.
    :param prefixes: only those for locations in these folders; by default all.
    :raises StorageError: if the store fails; what was deleted until then stays deleted.
    """
    count, failures = 0, []
    for prefix in [None] if prefixes is None else prefixes:
        old = (found for found in listed(prefix) if _age(found) < before)
        while batch := [new_ref("s3", found.location) for found in islice(old, _BATCH)]:
            failed = [] if dry_run else waiting.delete_many(batch)
            count += len(batch) - len(failed)
            failures += failed[:1]
    if failures:
        raise failures[0].error
    return count


def _age(found: ObjectInfo) -> datetime:
    """The younger of what the location tells and what the store says. What tells none is another program's."""
    return max(location_time(found.location) or _NEVER, found.modified)


def _checksums(head: Mapping[str, Any]) -> dict[str, str]:
    """What a HEAD tells of the whole content: a composite one, of the checksums of parts, is none of it."""
    if head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return {}
    found = {}
    for ours, theirs in _ALGORITHMS.items():
        with suppress(binascii.Error, ValueError):  # "<base64>-2" is composite, and no base64
            found[ours] = base64.b64decode(head.get(f"Checksum{theirs}") or "-", validate=True).hex()
    return found
