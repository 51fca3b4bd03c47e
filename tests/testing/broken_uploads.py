"""Backends in memory with one fault each, in how they take direct uploads."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from granite_storage.backends.base import Ability, in_folder
from granite_storage.backends.incoming import IncomingObject, UploadConditions
from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError
from granite_storage.presigned import PresignedRequest
from granite_storage.refs import StoredObjectRef
from tests.testing.broken_groups import GoodGroups

__all__ = ["deliver"]

_stores: WeakValueDictionary[str, GoodUploads] = WeakValueDictionary()


def deliver(request: PresignedRequest, content: bytes) -> None:
    """What a browser would do, without a network."""
    _stores[request.url].waiting[request.fields["key"]] = content


class GoodUploads(GoodGroups):
    """What the broken ones are made of."""

    abilities = GoodGroups.abilities | {Ability.DIRECT_UPLOAD, Ability.LEFTOVERS}

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, bytes] = {}
        self.marks: dict[str, str] = {}
        _stores[str(id(self))] = self

    def presign_upload(self, *, key: str, method: str, conditions: UploadConditions) -> PresignedRequest:
        return PresignedRequest(str(id(self)), method, conditions.max_size, {"key": key})

    def incoming(self, key: str) -> GoodIncoming:
        return GoodIncoming(self, key)

    def remove_leftovers(
        self, before: datetime, *, prefixes: Collection[str] | None = None, dry_run: bool = False
    ) -> int:
        if before < datetime.now(UTC):
            return 0
        count = 0
        for kept in (self.waiting, self.marks):
            old = [key for key in kept if prefixes is None or any(in_folder(key, prefix) for prefix in prefixes)]
            count += len(old)
            for key in old if not dry_run else ():
                del kept[key]
        return count


class GoodIncoming:
    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key = store, key

    def look(self) -> IncomingObject:
        content = self._store.waiting.get(self._key)
        if content is None:
            raise ObjectNotFoundError(self._key)
        return IncomingObject(len(content), "text/plain", sha256(content).hexdigest())

    def _same(self, found: IncomingObject) -> bytes:
        if self.look() != found:
            raise BackendError("changed")
        content: bytes = self._store.waiting[self._key]
        return content

    def open(self, found: IncomingObject) -> BinaryIO:
        return io.BytesIO(self._same(found))

    def copy(self, found: IncomingObject, *, key: str, content_type: str, **rest: Any) -> StoredObjectRef:
        put: StoredObjectRef = self._store.put_bytes(key=key, content=self._same(found), content_type=content_type)
        return put

    def claimed_by(self) -> str | None:
        mark: str | None = self._store.marks.get(self._key)
        return mark

    def mark_claimed(self, location: str) -> None:
        if self._store.marks.setdefault(self._key, location) != location:
            raise ObjectExistsError(self._key)

    def delete(self) -> None:
        self._store.waiting.pop(self._key, None)


class ListsWhatWaits(GoodUploads):
    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        yield from super().iter_locations(prefix)
        yield from (f".incoming/{key}" for key in self.waiting)


class TellsAWrongChecksum(GoodUploads):
    def incoming(self, key: str) -> GoodIncoming:
        class Incoming(GoodIncoming):
            def copy(self, *arguments: Any, **rest: Any) -> StoredObjectRef:
                return super().copy(*arguments, **rest).replace(checksum="sha256:" + "0" * 64)

        return Incoming(self, key)


class TakesWhatIsThere(GoodUploads):
    def incoming(self, key: str) -> GoodIncoming:
        class Incoming(GoodIncoming):
            def _same(self, found: IncomingObject) -> bytes:
                content: bytes = self._store.waiting[self._key]
                return content

        return Incoming(self, key)


class TheLastClaimWins(GoodUploads):
    def incoming(self, key: str) -> GoodIncoming:
        class Incoming(GoodIncoming):
            def mark_claimed(self, location: str) -> None:
                self._store.marks[self._key] = location

        return Incoming(self, key)


class ForgetsItsMarks(GoodUploads):
    def incoming(self, key: str) -> GoodIncoming:
        class Incoming(GoodIncoming):
            def delete(self) -> None:
                super().delete()
                self._store.marks.pop(self._key, None)

        return Incoming(self, key)


class SweepsByPrefix(GoodUploads):
    def remove_leftovers(
        self, before: datetime, *, prefixes: Collection[str] | None = None, dry_run: bool = False
    ) -> int:
        return super().remove_leftovers(before, dry_run=dry_run)


class SweepsTheYoung(GoodUploads):
    def remove_leftovers(self, before: datetime, **options: Any) -> int:
        return super().remove_leftovers(datetime.max.replace(tzinfo=UTC), **options)
