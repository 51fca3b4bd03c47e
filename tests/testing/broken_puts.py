"""Backends in memory with one fault each, in what they do with a put."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

from granite_storage.backends.memory import MemoryStorageBackend, _Object
from granite_storage.exceptions import BackendError
from granite_storage.refs import StoredObjectRef


class Good(MemoryStorageBackend):
    """What the broken ones are made of; ``_put`` writes without a question."""

    def _put(self, key: str, content: bytes) -> None:
        self._objects[key] = _Object(content, datetime.now(UTC))


class Overwrites(Good):
    def _publish(self, location: str, content: bytes) -> None:
        self._put(location, content)

    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        before = self._objects.pop(key, None)
        try:
            return super().put_stream(key=key, stream=stream, **rest)
        except BaseException:
            if before is not None:
                self._objects[key] = before
            raise


class OverwritesIfRaced(Good):
    def _publish(self, location: str, content: bytes) -> None:
        self._put(location, content)


class LosesTheLastByte(Good):
    def _publish(self, location: str, content: bytes) -> None:
        super()._publish(location, content[: 2**20])


class StopsAtAShortRead(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        return super().put_stream(key=key, stream=io.BytesIO(stream.read(2**20)), **rest)


class Rewinds(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        if stream.seekable():
            stream.seek(0)
        return super().put_stream(key=key, stream=stream, **rest)


class ClosesTheStream(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        with stream:
            return super().put_stream(key=key, stream=stream, **rest)


class NoEmptyObjects(Good):
    def exists(self, ref: StoredObjectRef) -> bool:
        return super().exists(ref) and bool(self.get(ref))


class ForgetsMembers(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        return super().put_stream(key=key, stream=stream)


class FoldsCase(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        super().put_stream(key=key, stream=(copy := io.BytesIO(stream.read())), **rest)
        if key.lower() != key:
            self._put(key.lower(), copy.getvalue())
        return StoredObjectRef("", "memory", key, len(copy.getvalue()), "")


class LeaksPartial(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        seen: list[bytes] = []
        try:
            seen.extend(iter(lambda: stream.read(65_536), b""))
        except BaseException:
            self._put(key, b"".join(seen))
            raise
        return super().put_stream(key=key, stream=io.BytesIO(b"".join(seen)), **rest)


class WrapsTheStreamsErrors(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        try:
            return super().put_stream(key=key, stream=stream, **rest)
        except OSError as error:
            raise BackendError("failed") from error


class KeepsTheLocation(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        taken = self.__dict__.setdefault("taken", set())
        if key in taken:
            raise BackendError("in use")
        taken.add(key)
        return super().put_stream(key=key, stream=stream, **rest)


class VisibleTooEarly(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        self._put(key, b"")
        try:
            content = stream.read()
        finally:
            del self._objects[key]
        return super().put_stream(key=key, stream=io.BytesIO(content), **rest)


class Trusting(Good):
    """Takes any location, as a naive join of paths would."""

    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        content = stream.read()
        self._put(key, content)
        return StoredObjectRef("", "memory", "x", len(content), "")

    def get(self, ref: StoredObjectRef) -> bytes:
        return self._object(ref.replace(location=_joined(ref.location))).content

    def delete(self, ref: StoredObjectRef) -> None:
        self._objects.pop(_joined(ref.location), None)

    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        self._put(key, self._objects[ref.location].content)

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        if prefix in ("..", "../", "a/../b"):
            yield from self._objects
        elif not prefix:
            yield from super().iter_locations()


def _joined(location: str) -> str:
    return "b" if location == "a/../b" else location


class StoresSettings(Good):
    def put_stream(self, *, key: str, stream: BinaryIO, **rest: Any) -> StoredObjectRef:
        if settings := rest.pop("settings", None):
            stream = io.BytesIO(repr(settings).encode() + stream.read())
        return super().put_stream(key=key, stream=stream, **rest)


class CopiesWithoutSettings(Good):
    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:  # type: ignore[override]
        super().copy(ref, key=key, content_type=content_type)
