"""All that a backend does, as cases: what is run, which of its requests can be broken, and what must be true then."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from granite_storage import StorageManager, StoragePolicy, StoredFile
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import StorageError
from granite_storage.testing.suite.sources import content_of, one_shot, ref_to

PART = 5 * 1024**2
SMALL = content_of(300_000)
MEDIUM = content_of(1_500_000)  # bytes: more than the first ranges of a reader
LARGE = content_of(PART + 100_000)
NEW = "docs/new"


@dataclass(slots=True)
class Store:
    """A backend under test, and another on the same bucket that nothing disturbs."""

    backend: S3StorageBackend
    direct: S3StorageBackend
    client: Any

    def file(self, location: str, content: bytes) -> StoredFile:
        manager = StorageManager({"s3": self.backend}, {"docs": StoragePolicy("docs", "s3")})
        return manager.file(ref_to(self.backend, location).replace(size=len(content), backend="s3", storage_key="docs"))

    def locations(self) -> list[str]:
        return list(self.direct.iter_locations())

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        return [
            found["Key"] for found in self.client.list_multipart_uploads(Bucket=self.direct.bucket).get("Uploads", ())
        ]

    def begin_upload(self) -> None:
        self.client.create_multipart_upload(Bucket=self.direct.bucket, Key="docs/abandoned")


@dataclass(frozen=True, slots=True)
class Case:
    """One operation and one of its requests.

    :param run: gives what ``expected`` is, if all went well.
    :param stores: whether ``docs/new`` is there afterwards.
    """

    name: str
    request: str
    run: Callable[[Store], object]
    expected: object
    stores: bytes = b""
    prepare: Callable[[Store], None] = lambda store: None

    def __str__(self) -> str:
        return f"{self.name}-{self.request}"


def _put_stream(store: Store, stream: Any) -> int:
    return store.backend.put_stream(key=NEW, stream=stream).size


def _open(store: Store, location: str) -> bytes:
    with store.backend.open(ref_to(store.backend, location)) as stream:
        return b"".join(iter(lambda: stream.read(200_000), b""))


def _save(store: Store, location: str, content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved")
        try:
            return store.file(location, content).save_to(path).read_bytes()
        except StorageError:
            assert list(Path(folder).iterdir()) == [], "a part of the object was left"
            raise


def _delete(store: Store) -> bool:
    store.backend.delete(ref_to(store.backend, "docs/small"))
    return "docs/small" in store.locations()


def _delete_many(store: Store) -> list[str]:
    failures = store.backend.delete_many([ref_to(store.backend, name) for name in ("docs/small", "docs/medium")])
    for failure in failures:
        raise failure.error
    return store.locations()


def _copy(store: Store) -> None:
    store.backend.copy(ref_to(store.backend, "docs/small"), key=NEW)


def _remove_leftovers(store: Store) -> int:
    return store.backend.remove_leftovers(datetime.now(UTC) + timedelta(minutes=1))


def _cases() -> list[Case]:
    cases = [
        Case("put", "PutObject", lambda s: s.backend.put_bytes(key=NEW, content=SMALL).size, len(SMALL), SMALL),
        Case("put one-shot", "PutObject", lambda s: _put_stream(s, one_shot(SMALL, 70_000)), len(SMALL), SMALL),
    ]
    for request in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
        cases.append(
            Case("put large one-shot", request, lambda s: _put_stream(s, one_shot(LARGE, 10**6)), len(LARGE), LARGE)
        )
    cases.append(Case("put large", "UploadPart", lambda s: _put_stream(s, io.BytesIO(LARGE)), len(LARGE), LARGE))
    reads: dict[str, Callable[[Store, str, bytes], bytes]] = {
        "get": lambda store, location, content: store.backend.get(ref_to(store.backend, location)),
        "open": lambda store, location, content: _open(store, location),
        "iter_bytes": lambda store, location, content: b"".join(store.file(location, content).iter_bytes(100_000)),
        "save_to": _save,
    }
    for name, read in reads.items():
        run = lambda s, r=read: r(s, "docs/medium", MEDIUM)  # noqa: E731
        cases.append(Case(name, "GetObject", run, MEDIUM))
    small_ref = lambda s: ref_to(s.backend, "docs/small")  # noqa: E731
    cases += [
        Case("open", "HeadObject", lambda s: _open(s, "docs/small"), SMALL),
        Case("stat", "HeadObject", lambda s: s.backend.stat(small_ref(s)).size, len(SMALL)),
        Case("exists", "HeadObject", lambda s: s.backend.exists(small_ref(s)), True),
        Case("copy", "HeadObject", _copy, None, SMALL),
        Case("copy", "CopyObject", _copy, None, SMALL),
        Case("delete", "DeleteObject", _delete, False),
        Case("delete_many", "DeleteObjects", _delete_many, []),
        Case("list", "ListObjectsV2", lambda s: list(s.backend.iter_locations("docs")), ["docs/medium", "docs/small"]),
        Case("leftovers", "ListMultipartUploads", _remove_leftovers, 1, prepare=Store.begin_upload),
        Case("leftovers", "AbortMultipartUpload", _remove_leftovers, 1, prepare=Store.begin_upload),
    ]
    return cases


CASES = _cases()
"""Every operation with each kind of request it makes."""
