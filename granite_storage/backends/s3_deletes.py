"""Deleting objects from S3 by their refs: one or many, keeping what a versioned bucket keeps or purging it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Self

from granite_storage.backends.base import DeleteFailure
from granite_storage.backends.s3_deleting import BucketDeletes
from granite_storage.backends.s3_keys import BucketKeys
from granite_storage.backends.s3_versions import purge
from granite_storage.exceptions import InvalidLocationError, StorageError
from granite_storage.refs import StoredObjectRef

__all__ = ["ObjectDeletes"]


class ObjectDeletes:
    """The deletes of one backend.

    :param client: gives the boto3 client of this process.
    :param owner: arguments of every request besides the bucket.
    :param batches: whether the server has DeleteObjects.
    :param purging: whether old versions and delete markers go, too.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        keys: BucketKeys,
        owner: Mapping[str, Any],
        *,
        batches: bool,
        purging: bool,
    ) -> None:
        self._keys = keys
        self._client = client
        self._target = {"Bucket": keys.bucket, **owner}
        self._bucket = BucketDeletes(client, self._target, batches=batches)
        self._purging = purging

    def of(self, keys: BucketKeys) -> Self:
        """The same for other locations of the bucket."""
        other = copy(self)
        other._keys = keys
        return other

    def one(self, ref: StoredObjectRef) -> None:
        """Delete an object; nothing happens if there is none.

        :raises StorageError: why it could not be deleted.
        """
        key = self._keys.target(ref.location)["Key"]
        if not self._purging:
            self._bucket.one((key, None))
        elif error := purge(self._client, self._target, self._bucket, [key]).get(key):
            raise error

    def many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects; gives those that could not be deleted."""
        failures: list[DeleteFailure] = []
        by_key: dict[str, list[StoredObjectRef]] = {}
        for ref in refs:
            try:
                by_key.setdefault(self._keys.target(ref.location)["Key"], []).append(ref)
            except InvalidLocationError as error:
                failures.append(DeleteFailure(ref, error))
        for key, failure in self._failures(list(by_key)).items():
            failures += (DeleteFailure(ref, failure) for ref in by_key[key])
        return failures

    def _failures(self, keys: list[str]) -> dict[str, StorageError]:
        if self._purging:
            return purge(self._client, self._target, self._bucket, keys)
        return {key: error for (key, _), error in self._bucket.many((key, None) for key in keys).items()}
