"""Backends in memory with one fault each, in reading, copying, deleting or listing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo
from granite_storage.exceptions import ObjectNotFoundError, StorageError
from granite_storage.refs import StoredObjectRef
from tests.testing.broken_puts import Good


class CopiesAnywhere(Good):
    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        self._put(key, self.get(ref))


class DeclaresTooMuch(Good):
    abilities = Good.abilities | {Ability.LOCAL_PATH}


class MissingIsEmpty(Good):
    def get(self, ref: StoredObjectRef) -> bytes:
        return super().get(ref) if self.exists(ref) else b""


class FoldersAreObjects(Good):
    def exists(self, ref: StoredObjectRef) -> bool:
        return any((name + "/").startswith(ref.location + "/") for name in self._objects)


class ExistsByPrefix(Good):
    def exists(self, ref: StoredObjectRef) -> bool:
        return any(ref.location.startswith(name) for name in self._objects)


class _Opens(Good):
    """Opens what :meth:`stream_of` makes of the content."""

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        return self.stream_of(self.get(ref))

    def stream_of(self, content: bytes) -> BinaryIO:
        raise NotImplementedError


class OpensTheFirstBytes(_Opens):
    def stream_of(self, content: bytes) -> BinaryIO:
        return io.BytesIO(content[: 2**20])


class SharesAStream(Good):
    def open(self, ref: StoredObjectRef) -> BinaryIO:
        streams = self.__dict__.setdefault("streams", {})
        return cast("BinaryIO", streams.setdefault(ref.location, super().open(ref)))


class _Forward(io.BytesIO):
    def seekable(self) -> bool:
        return False


class _Forgetful(io.BytesIO):
    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset, whence) if whence else (super().seek(min(offset, 10**6)), offset)[1]


class CannotSeek(_Opens):
    def stream_of(self, content: bytes) -> BinaryIO:
        return _Forward(content)


class SeeksWrong(_Opens):
    def stream_of(self, content: bytes) -> BinaryIO:
        return _Forgetful(content)


class ReadsInto(Good):
    """Reads into files as it should."""

    abilities = Good.abilities | {Ability.PARALLEL_READ}

    def read_into(self, ref: StoredObjectRef, file: BinaryIO, *, follow: Any = None) -> int:
        content = self.get(ref)
        file.write(self.written(content))
        if follow is not None:
            follow(self.followed(content))
        return self.told(content)

    def written(self, content: bytes) -> bytes:
        return content

    def followed(self, content: bytes) -> bytes:
        return content

    def told(self, content: bytes) -> int:
        return len(content)


class ReadsIntoTheFirstPart(ReadsInto):
    def written(self, content: bytes) -> bytes:
        return content[: 8 * 2**20]


class FollowsOutOfOrder(ReadsInto):
    def followed(self, content: bytes) -> bytes:
        return content[2**20 :] + content[: 2**20]


class TellsNoSize(ReadsInto):
    def told(self, content: bytes) -> int:
        return 0


class ReadsIntoOfNothing(ReadsInto):
    def get(self, ref: StoredObjectRef) -> bytes:
        return super().get(ref) if self.exists(ref) else b""


class StatIsLocalTime(Good):
    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        info = super().stat(ref)
        return ObjectInfo(info.location, info.size, info.modified.replace(tzinfo=None))


class StatIsOff(Good):
    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        info = super().stat(ref)
        return ObjectInfo(info.location, info.size + 1, info.modified)


class StatIsOld(Good):
    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        info = super().stat(ref)
        return ObjectInfo(info.location, info.size, info.modified - timedelta(days=400))


class CopiesALink(Good):
    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        super().copy(ref, key=key)
        self.__dict__.setdefault("links", {})[ref.location] = key

    def delete(self, ref: StoredObjectRef) -> None:
        super().delete(ref)
        self._objects.pop(self.__dict__.get("links", {}).get(ref.location, ""), None)


class CopiesNothing(Good):
    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        if not self.exists(ref):
            self._put(key, b"")
        super().copy(ref, key=key + "-2" if not self.exists(ref) else key)


class CopyOverwrites(Good):
    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        self._objects[key] = self._object(ref)


class DeletesNothing(Good):
    def delete(self, ref: StoredObjectRef) -> None:
        pass


class DeleteRaisesIfMissing(Good):
    def delete(self, ref: StoredObjectRef) -> None:
        self._object(ref)
        super().delete(ref)


class DeletesByPrefix(Good):
    def delete(self, ref: StoredObjectRef) -> None:
        for name in list(self._objects):
            if name.startswith(ref.location):
                del self._objects[name]


class BatchStopsAtAFailure(Good):
    def delete_many(self, refs: Any) -> list[DeleteFailure]:
        for ref in refs:
            try:
                self.delete(ref)
            except StorageError as error:
                return [DeleteFailure(ref, error)]
        return []


class BatchTellsTheMissing(Good):
    def delete_many(self, refs: Any) -> list[DeleteFailure]:
        missing = [DeleteFailure(ref, ObjectNotFoundError("gone")) for ref in refs if not self.exists(ref)]
        super().delete_many(refs)
        return missing


class _Lists(Good):
    """Lists in its own way; locations and objects alike."""

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        return self._infos(self.names(prefix or "", start_after or ""))

    def names(self, prefix: str, start_after: str) -> list[str]:
        raise NotImplementedError

    def inside(self, prefix: str) -> list[str]:
        folder = prefix.rstrip("/") + "/" if prefix else ""
        return [name for name in self._objects if name.startswith(folder)]


class ListsByPrefix(_Lists):
    def names(self, prefix: str, start_after: str) -> list[str]:
        return sorted(name for name in self._objects if name.startswith(prefix) and name > start_after)


class TakesObjectsForLeftovers(Good):
    abilities = Good.abilities | {Ability.LEFTOVERS}

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> int:
        if not dry_run:
            self._objects.clear()
        return 0


class RemovesInADryRun(Good):
    abilities = Good.abilities | {Ability.LEFTOVERS}

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> int:
        return 1 if len(self._objects) == 1 and dry_run else 0


class ListsOneLevel(_Lists):
    def names(self, prefix: str, start_after: str) -> list[str]:
        return sorted(name for name in self.inside(prefix) if name.count("/") < 3 and name > start_after)


class ListsByFolder(_Lists):
    """The order of a walk: each folder's names sorted by themselves."""

    def names(self, prefix: str, start_after: str) -> list[str]:
        return sorted(self.inside(prefix), key=lambda name: name.split("/"))


class ListsInUtf16Order(_Lists):
    def names(self, prefix: str, start_after: str) -> list[str]:
        return sorted(self.inside(prefix), key=lambda name: name.encode("utf-16-be"))


class StartsAtInsteadOfAfter(_Lists):
    def names(self, prefix: str, start_after: str) -> list[str]:
        return sorted(name for name in self.inside(prefix) if name >= start_after)


class MissingFolderRaises(_Lists):
    def names(self, prefix: str, start_after: str) -> list[str]:
        found = sorted(self.inside(prefix))
        if prefix and not found:
            raise ObjectNotFoundError("no such folder")
        return found


class ListsSizesWrong(Good):
    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        for info in super().iter_objects(prefix, start_after=start_after):
            yield ObjectInfo(info.location, 0, info.modified)


class EmptyPrefixIsNothing(Good):
    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return iter(()) if prefix == "" else super().iter_locations(prefix)


class ListsEncoded(Good):
    """Gives locations as they are in a URL."""

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return map(quote, super().iter_locations(prefix))


class MixesThreads(Good):
    """Keeps what it is putting in an attribute, which threads share."""

    def put_bytes(self, *, key: str, content: bytes, **rest: Any) -> StoredObjectRef:
        self.__dict__.setdefault("contents", []).append(content)
        return super().put_bytes(key=key, content=self.__dict__["contents"][len(self._objects) // 2], **rest)


class ListingBreaksWhenPutInto(Good):
    """Iterates over what others change, as a plain loop over a dict does."""

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        self.__dict__["lists"] = self.__dict__.get("lists", 0) + 1
        if self.__dict__["lists"] == 5:
            raise RuntimeError("dictionary changed size during iteration")
        return super().iter_locations(prefix)
