"""Deleting from a bucket: a thousand keys in a request, and what the answer leaves open again, or one by one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, TypeVar

from granite_storage.backends.s3_answers import ask
from granite_storage.backends.s3_errors import refused, s3_errors
from granite_storage.backends.s3_remedies import is_temporary
from granite_storage.backends.s3_retries import attempts_of
from granite_storage.batching import batched
from granite_storage.exceptions import ObjectNotFoundError, StorageError

__all__ = ["BucketDeletes", "Failures", "Version", "side_by_side"]

_T = TypeVar("_T")
_R = TypeVar("_R")

Version: TypeAlias = tuple[str, str | None]
"""A key, and the id of one of its versions; with None the object itself, which in a versioned bucket gets a marker."""

Failures: TypeAlias = dict[Version, StorageError]
"""What could not be deleted, and why."""

_BATCH = 1000  # S3's most
_BATCHES_AT_ONCE = 4
_SINGLES_AT_ONCE = 8
_FIRST_PAUSE = 1.0  # seconds, at most, before a batch's second attempt; twice as long each time, as botocore does
_LONGEST_PAUSE = 20.0
_GONE = {"NoSuchKey", "NoSuchVersion", "404"}
# What servers say that have no batch delete. The third: one that wants the checksum that boto3 sent before 1.36.
_NO_BATCHES = {"NotImplemented", "MethodNotAllowed", "MissingContentMD5", "405", "501"}


class BucketDeletes:
    """Deletes keys, or versions of keys, from one bucket.

    :param client: gives the boto3 client of this process.
    :param target: ``Bucket`` and further arguments of the requests.
    :param batches: whether the server has DeleteObjects; if it says that it has not, it is not asked again.
    """

    def __init__(self, client: Callable[[], Any], target: Mapping[str, Any], *, batches: bool = True) -> None:
        self._client = client
        self._target = dict(target)
        self._batches = batches

    def one(self, version: Version) -> None:
        """Delete one; nothing happens if it is gone.

        :raises StorageError: why it could not be deleted.
        """
        key, version_id = version
        with suppress(ObjectNotFoundError), s3_errors(self._target["Bucket"], key, "deleting"):
            self._client().delete_object(**self._target, **_named(key, version_id))

    def many(self, versions: Iterable[Version]) -> Failures:
        """Delete many, batches side by side; what is gone already is no failure."""
        together: list[Version] = []
        alone: list[Version] = []
        for version in dict.fromkeys(versions):
            (together if self._batches and _fits_xml(version[0]) else alone).append(version)
        failures: Failures = {}
        for failed, left in side_by_side(self._batch, [*batched(together, _BATCH)], _BATCHES_AT_ONCE):
            failures |= failed
            alone += left
        return failures | self._one_by_one(alone)

    def _batch(self, batch: Sequence[Version]) -> tuple[Failures, Collection[Version]]:
        """Delete a batch, trying again what failed for now; gives failures, and those that must go one by one."""
        failures: Failures = {}
        left: list[Version] = []
        temporary: Failures = {}
        client = self._client()
        for attempt in range(attempts_of(client)):
            if attempt:
                time.sleep(random.random() * min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE))
            waiting = list(temporary) if attempt else batch
            try:
                confirmed, temporary, permanent = self._request(client, waiting)
            except StorageError as error:
                if _code_of(error) in _NO_BATCHES:
                    self._batches = False
                    return failures, [*left, *waiting]
                return failures | dict.fromkeys(waiting, error), left
            failures |= permanent
            # What is neither confirmed nor refused: a name that did not survive XML, or a server that says nothing.
            left += (one for one in waiting if one not in confirmed and one not in temporary and one not in permanent)
            if not temporary:
                break
        return failures | temporary, left

    def _request(self, client: Any, batch: Sequence[Version]) -> tuple[set[Version], Failures, Failures]:
        """Send one batch; gives what is gone, what is refused for now, and what is refused for good."""
        wanted = {"Objects": [_named(*version) for version in batch], "Quiet": False}
        request = {**self._target, "Delete": wanted}
        bucket = self._target["Bucket"]
        with s3_errors(bucket, batch[0][0], f"deleting {len(batch)} objects beginning with"):
            answer, found = ask(client, "DeleteObjects", request, "Deleted", "Key", "VersionId")
        told = [(one.get("Key", ""), one.get("VersionId")) for one in answer.get("Deleted", ())]
        told += [(key, version_id or None) for key, version_id in found]
        asked = set(batch)
        gone = {_meant(asked, *one) for one in told}
        temporary: Failures = {}
        permanent: Failures = {}
        for refusal in answer.get("Errors", ()):
            version, code = _meant(asked, refusal.get("Key", ""), refusal.get("VersionId")), refusal.get("Code", "")
            if code in _GONE:
                gone.add(version)
            elif version in asked:
                later = is_temporary(code)
                (temporary if later else permanent)[version] = refused(
                    code, refusal.get("Message"), f"deleting {version[0]!r} in bucket {bucket!r}", later=later
                )
        return gone, temporary, permanent

    def _one_by_one(self, versions: Sequence[Version]) -> Failures:
        def failure(version: Version) -> StorageError | None:
            try:
                self.one(version)
            except StorageError as error:
                return error
            return None

        errors = side_by_side(failure, versions, _SINGLES_AT_ONCE)
        return {version: error for version, error in zip(versions, errors, strict=True) if error is not None}


def side_by_side(call: Callable[[_T], _R], items: Sequence[_T], threads: int) -> list[_R]:
    """``call`` of each item, in their order, by a few threads that work in copies of this context."""
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="granite-storage-s3") as pool:
        futures = [pool.submit(copy_context().run, partial(call, item)) for item in items]
        return [future.result() for future in futures]


def _named(key: str, version_id: str | None) -> dict[str, str]:
    return {"Key": key} if version_id is None else {"Key": key, "VersionId": version_id}


def _meant(asked: set[Version], key: str, version_id: str | None) -> Version:
    """Which of those that were asked for an answer is about: some servers name a version though none was asked for."""
    return (key, version_id) if (key, version_id) in asked else (key, None)


def _fits_xml(key: str) -> bool:
    """Whether XML 1.0 (section 2.2) can carry a key that is a location: of what it cannot, two characters are left."""
    return "\ufffe" not in key and "\uffff" not in key


def _code_of(error: StorageError) -> str:
    response = getattr(error.__cause__, "response", None) or {}  # botocore's transport errors have one that is None
    return str(response.get("Error", {}).get("Code", ""))
