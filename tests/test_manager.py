"""The manager, with no ORM: storing, reading, copying, overriding, and the same awaited."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from granite_storage import (
    BackendError,
    ConfigurationError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidRefError,
    LocalStorageBackend,
    MemoryStorageBackend,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    UnassignableError,
    Upload,
)
from granite_storage.exceptions import OwnershipError
from granite_storage.ownership import is_mark

POLICIES = {
    "documents": StoragePolicy("documents", "memory", key_prefix="docs"),
    "covers": StoragePolicy("covers", "disk", max_size=100, content_types=("image/*",)),
    "notes": StoragePolicy("notes", "memory", min_size=2, max_size=10),
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def manager(tmp_path: Path) -> StorageManager:
    return StorageManager({"memory": "memory://", "disk": f"file://{tmp_path}/stored?fsync=false"}, POLICIES)


def stored_in(manager: StorageManager, backend: str = "memory") -> list[str]:
    return list(manager.backends[backend].iter_locations())


# What is configured


def test_grace_is_a_day_unless_it_says_so() -> None:
    assert StorageManager({}, {}).grace == timedelta(hours=24)
    assert StorageManager({}, {}, grace=timedelta(minutes=5)).grace == timedelta(minutes=5)


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(seconds=-1), 3600, None])
def test_a_grace_that_cannot_be_is_refused(grace: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"grace is a timedelta above 0, such as timedelta\(hours=24\)"):
        StorageManager({}, {}, grace=grace)


@pytest.mark.parametrize("owner", ["", 5])
def test_an_owner_that_cannot_be_is_refused(owner: Any) -> None:
    with pytest.raises(ConfigurationError, match="owner is a name"):
        StorageManager({}, {}, owner=owner)


def test_the_same_awaited_asks_whose_the_prefix_is(manager: StorageManager) -> None:
    async def run() -> None:
        stored = await manager.astore("documents", b"content")
        other = StorageManager(manager.backends, manager.policies, owner="other")
        other.ownership.take(manager.backends["memory"], manager.policies["documents"], set())
        stranger = StorageManager(manager.backends, manager.policies)
        with pytest.raises(OwnershipError):
            await stranger.astore("documents", b"content")
        with pytest.raises(OwnershipError):
            await stranger.adelete(stored.ref)
        assert await stranger.aget(stored.ref) == b"content"

    asyncio.run(run())


def test_backends_are_given_as_objects_or_urls(tmp_path):
    backend = MemoryStorageBackend()
    manager = StorageManager({"object": backend, "url": f"file://{tmp_path}/here"}, {})
    assert manager.backends["object"] is backend
    assert isinstance(manager.backends["url"], LocalStorageBackend)
    with pytest.raises(ConfigurationError, match="no backend is known for the scheme 'ftp'"):
        StorageManager({"wrong": "ftp://somewhere"}, {})


def test_unknown_policies_and_backends_are_told_with_those_that_are_known(manager):
    assert manager.get_policy("covers") is POLICIES["covers"]
    with pytest.raises(
        StorageError, match="Unknown storage policy: 'cover'; the manager has 'documents', 'covers', 'notes'"
    ):
        manager.get_policy("cover")
    assert manager.get_backend_for_policy(POLICIES["covers"]) is manager.backends["disk"]
    with pytest.raises(StorageError, match="Unknown backend: 's3'; the manager has 'memory', 'disk'"):
        manager.get_backend_for_policy(StoragePolicy("x", "s3"))
    with pytest.raises(StorageError, match="Unknown storage policy: 'cover'"):
        manager.store("cover", b"x")


def test_the_repr_shows_names_and_no_urls(manager):
    assert repr(manager) == "<StorageManager policies: documents, covers, notes; backends: memory, disk>"


@pytest.mark.parametrize("workers", [0, -1])
def test_a_manager_without_workers_is_refused(workers):
    with pytest.raises(ConfigurationError, match="max_workers is a number of threads, 1 or more"):
        StorageManager({}, {}, max_workers=workers)


# Storing


def test_store_gives_a_file_with_everything_known(manager):
    stored = manager.store("documents", Upload(b"%PDF-1.7 content", "a/b/report.pdf", extra={"pages": 3}))
    assert isinstance(stored, StoredFile)
    ref = stored.ref
    assert (ref.storage_key, ref.backend, ref.size) == ("documents", "memory", 16)
    assert ref.checksum == "sha256:" + hashlib.sha256(b"%PDF-1.7 content").hexdigest()
    assert (ref.content_type, ref.original_filename, ref.extra["pages"]) == ("application/pdf", "report.pdf", 3)
    assert ref.location.startswith("docs/")
    assert ref.location.endswith(".pdf")
    assert stored.read() == b"%PDF-1.7 content"
    assert stored_in(manager) == [ref.location]


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "str", "path", "stream", "upload", "staged file"])
def test_store_takes_every_source(manager, tmp_path, kind):
    path = tmp_path / "source"
    path.write_bytes(b"content")
    source = {
        "bytes": b"content",
        "bytearray": bytearray(b"content"),
        "memoryview": memoryview(b"content"),
        "str": "content",
        "path": path,
        "stream": io.BytesIO(b"content"),
        "upload": Upload(b"content"),
        "staged file": StoredFile(manager, Upload(b"content")),
    }[kind]
    assert manager.store("documents", source).read() == b"content"


@pytest.mark.parametrize("source", [None, {"location": "docs/a"}, 5, io.StringIO("text")])
def test_store_refuses_what_is_no_source(manager, source):
    with pytest.raises(UnassignableError):
        manager.store("documents", source)


def test_an_unstored_limit_leaves_nothing_behind(manager):
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    for policy, source, error in (
        ("notes", b"12345678901", ContentTooLargeError),
        ("notes", Endless(), ContentTooLargeError),
        ("notes", b"1", ContentTooSmallError),
        ("notes", io.BytesIO(b"1"), ContentTooSmallError),
        ("covers", b"no image", ContentTypeNotAllowedError),
    ):
        with pytest.raises(error) as caught:
            manager.store(policy, source)
        assert repr(policy) in str(caught.value)
    assert stored_in(manager) == stored_in(manager, "disk") == []


def test_what_a_ref_could_not_say_is_refused_before_a_byte_is_stored(manager):
    with pytest.raises(InvalidRefError, match="'extra'"):
        manager.store("documents", Upload(b"x", extra={"bad": float("nan")}))
    with pytest.raises(InvalidRefError, match="'extra'"):
        manager.store("documents", Upload(b"x", extra={"bad": object()}))
    assert stored_in(manager) == []


class Careless(MemoryStorageBackend):
    """A backend that does what a test says with the stream it is given."""

    def __init__(self, take: Callable[[Any, int | None], bytes], **members: Any) -> None:
        super().__init__()
        self.take, self.members = take, members

    def put_stream(self, *, key: str, stream: Any, size: int | None = None, **rest: Any) -> StoredObjectRef:
        ref = self.put_bytes_of(key, self.take(stream, size))
        return ref.replace(**self.members)

    def put_bytes_of(self, key: str, content: bytes) -> StoredObjectRef:
        return super().put_stream(key=key, stream=io.BytesIO(content))


def test_a_backend_that_takes_only_a_part_is_found_out():
    manager = StorageManager({"memory": Careless(lambda stream, size: stream.read(3))}, POLICIES)
    with pytest.raises(BackendError, match=r"backend 'memory' took only a part of the content .*; nothing was kept"):
        manager.store("documents", b"content")
    assert stored_in(manager) == []


def test_a_limit_that_shows_after_a_backend_stopped_reading_leaves_nothing_behind():
    class OneShot(io.BytesIO):
        def seekable(self) -> bool:
            return False

    backend = Careless(lambda stream, size: stream.read(10_000))
    manager = StorageManager({"memory": backend}, {"notes": StoragePolicy("notes", "memory", min_size=20_000)})
    with pytest.raises(ContentTooSmallError):
        manager.store("notes", OneShot(bytes(10_000)))
    assert stored_in(manager) == []


def test_an_extra_of_the_backend_that_no_ref_can_hold_leaves_nothing_behind():
    backend = Careless(lambda stream, size: stream.read(), extra={"fine": "x" * 500})
    manager = StorageManager({"memory": backend}, POLICIES)
    kept = manager.store("documents", Upload(b"x", extra={"mine": 1}))
    assert set(kept.extra) == {"fine", "mine"}
    with pytest.raises(InvalidRefError, match="65536"):
        manager.store("documents", Upload(b"x", extra={"large": "x" * 65_000}))
    assert stored_in(manager) == [kept.location]


def test_the_manager_measures_by_itself():
    """Whatever a backend says of size, checksum, backend and storage key."""
    backend = Careless(
        lambda stream, size: stream.read(),
        size=99,
        checksum="md5:00",
        backend="other",
        storage_key="x",
        content_type="a/b",
    )
    ref = StorageManager({"memory": backend}, POLICIES).store("documents", b"content").ref
    assert (ref.size, ref.backend, ref.storage_key) == (7, "memory", "documents")
    assert ref.checksum == "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert ref.content_type == "application/octet-stream"


def test_a_policy_chooses_the_hash():
    policy = StoragePolicy("documents", "memory", checksum="blake2b")
    stored = StorageManager({"memory": "memory://"}, {"documents": policy}).store("documents", b"content")
    assert stored.checksum == "blake2b:" + hashlib.blake2b(b"content").hexdigest()
    stored.verify()


def test_every_store_has_a_location_of_its_own(manager):
    locations = {manager.store("documents", b"same").location for _ in range(50)}
    assert len(locations) == 50


# Reading and deleting


def test_get_open_exists_delete(manager):
    ref = manager.store("documents", b"content").ref
    assert manager.exists(ref)
    assert manager.get(ref) == b"content"
    with manager.open(ref) as stream:
        assert stream.read(3) == b"con"
    manager.delete(ref)
    assert not manager.exists(ref)
    manager.delete(ref)  # idempotent
    with pytest.raises(ObjectNotFoundError):
        manager.get(ref)
    with pytest.raises(ObjectNotFoundError):
        manager.open(ref)


def test_file_reads_what_the_database_gave(manager):
    ref = manager.store("documents", b"content").ref
    for given in (ref, ref.to_dict(), ref.to_json()):
        assert manager.file(given).read() == b"content"


# Copying


def test_a_copy_is_another_object_with_the_same_content(manager):
    stored = manager.store("documents", Upload(b"%PDF-1.7", "a.pdf", extra={"k": "v"}))
    copied = manager.copy("documents", stored)
    assert copied != stored
    assert copied.read() == b"%PDF-1.7"
    assert (copied.filename, copied.content_type, copied.checksum) == (
        stored.filename,
        stored.content_type,
        stored.checksum,
    )
    assert dict(copied.extra) == {"k": "v"}
    assert copied.location.endswith(".pdf")
    manager.delete(stored.ref)
    assert copied.read() == b"%PDF-1.7"


def test_a_copy_inside_one_backend_moves_no_bytes_through_here(manager, monkeypatch):
    stored = manager.store("documents", b"content")
    monkeypatch.setattr(MemoryStorageBackend, "open", None)
    monkeypatch.setattr(MemoryStorageBackend, "get", None)
    monkeypatch.setattr(MemoryStorageBackend, "put_stream", None)
    assert manager.exists(manager.copy("documents", stored).ref)


def test_a_copy_under_another_policy_is_judged_by_it(manager):
    stored = manager.store("documents", PNG)
    cover = manager.copy("covers", stored)
    assert (cover.storage_key, cover.backend, cover.read()) == ("covers", "disk", PNG)
    with pytest.raises(ContentTooLargeError):
        manager.copy("notes", stored)
    with pytest.raises(ContentTypeNotAllowedError):
        manager.copy("covers", manager.store("documents", b"no image"))
    assert len(stored_in(manager, "disk")) == 1


def test_store_of_a_stored_file_copies_it(manager):
    stored = manager.store("documents", b"content")
    again = manager.store("documents", stored)
    assert again != stored
    assert again.read() == b"content"


def test_a_copy_of_a_missing_object_is_told(manager):
    stored = manager.store("documents", b"content")
    manager.delete(stored.ref)
    for policy in ("documents", "notes"):
        with pytest.raises(ObjectNotFoundError):
            manager.copy(policy, stored)
    assert stored_in(manager) == []


def test_a_file_of_another_manager_is_copied_too(manager):
    other = StorageManager({"elsewhere": "memory://"}, {"documents": StoragePolicy("documents", "elsewhere")})
    copied = manager.store("documents", other.store("documents", b"content"))
    assert (copied.backend, copied.read()) == ("memory", b"content")


# Override


def test_override_puts_every_backend_into_memory_for_a_while(manager):
    before = manager.backends
    with manager.override() as inside:
        assert inside is manager
        stored = manager.store("covers", PNG)
        assert isinstance(manager.backends["disk"], MemoryStorageBackend)
        assert manager.backends["disk"] is not manager.backends["memory"]
        assert stored.read() == PNG
    assert manager.backends == before
    assert not manager.exists(stored.ref)
    assert stored_in(manager, "disk") == []


def test_override_takes_backends_and_policies(manager):
    disk = manager.backends["disk"]
    with manager.override(
        backends={"memory": "memory://", "new": MemoryStorageBackend()},
        policies={"tiny": StoragePolicy("tiny", "new", max_size=1)},
    ):
        assert manager.backends["disk"] is disk
        assert manager.store("tiny", b"1").backend == "new"
        with pytest.raises(ContentTooLargeError):
            manager.store("tiny", b"12")
    with pytest.raises(StorageError, match="Unknown storage policy: 'tiny'"):
        manager.store("tiny", b"1")


def test_override_of_policies_alone_keeps_the_backends(manager):
    with manager.override(policies={"notes": StoragePolicy("notes", "memory")}):
        stored = manager.store("notes", b"longer than ten bytes")
    assert stored.read() == b"longer than ten bytes"


def test_a_backend_that_stood_in_is_let_go_of(manager):
    with manager.override():
        manager.store("covers", PNG)
        stood_in = weakref.ref(manager.backends["disk"])
    gc.collect()
    assert stood_in() is None


def test_overrides_nest_and_end_with_an_error_too(manager):
    outside = manager.backends
    with pytest.raises(RuntimeError, match="test failed"), manager.override():
        within = manager.backends
        with manager.override():
            assert manager.backends["memory"] is not within["memory"]
        assert manager.backends is within
        raise RuntimeError("test failed")
    assert manager.backends is outside


# The same, awaited


def test_every_async_twin_gives_what_its_sync_twin_gives(manager):
    async def use() -> None:
        old = {"storage_key": "documents", "model_name": "document", "entity_id": 1, "field_name": "report"}
        stored = await manager.astore("documents", "content")
        assert stored.text() == "content"
        refs = [
            stored.ref,
            await manager.aput_bytes(**old, content=b"content", original_filename="a.txt", extra={"k": 1}),
            await manager.aput_stream(**old, stream=io.BytesIO(b"content"), content_type="text/plain"),
        ]
        for ref in refs:
            assert await manager.aexists(ref)
            assert await manager.aget(ref) == b"content"
            async with await manager.aopen(ref) as stream:
                assert await stream.read(3) == b"con"
                assert [chunk async for chunk in stream] == [b"tent"]
            await manager.adelete(ref)
            assert not await manager.aexists(ref)
            with pytest.raises(ObjectNotFoundError):
                await manager.aget(ref)
        with pytest.raises(ContentTooLargeError):
            await manager.astore("notes", b"12345678901")

    asyncio.run(use())


class Gate:
    """Opens when another task of the event loop made progress; whoever waits in a thread fails if none does."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(30), "the event loop stood still"

    async def open(self) -> None:
        while not self.reached.is_set():
            await asyncio.sleep(0)
        self.opened.set()


class SlowStream(io.BytesIO):
    """A stream, such as a network's, that waits at each read."""

    def __init__(self, content: bytes, gate: Gate) -> None:
        super().__init__(content)
        self.gate = gate

    def read(self, size: int | None = -1) -> bytes:
        self.gate.wait()
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self.gate.wait()
        return super().readinto(buffer)


class SlowBackend(MemoryStorageBackend):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def get(self, ref: StoredObjectRef) -> bytes:
        self.gate.wait()
        return super().get(ref)

    def open(self, ref: StoredObjectRef) -> Any:
        self.gate.wait()
        return SlowStream(super().get(ref), self.gate)

    def delete(self, ref: StoredObjectRef) -> None:
        self.gate.wait()
        super().delete(ref)

    def exists(self, ref: StoredObjectRef) -> bool:
        if not is_mark(ref.location):  # which a manager looks for once, whoever calls it first
            self.gate.wait()
        return super().exists(ref)


@pytest.mark.parametrize("name", ["astore", "aput_stream", "aput_bytes", "aget", "aopen", "adelete", "aexists"])
def test_no_async_twin_blocks_the_event_loop(name):
    gate = Gate()
    manager = StorageManager({"memory": SlowBackend(gate)}, POLICIES)
    ref = manager.store("documents", b"content").ref
    old = {"storage_key": "documents", "model_name": "document", "entity_id": 1, "field_name": "report"}

    def slow_validator(candidate: Any) -> None:
        gate.wait()

    async def use() -> None:
        if name == "astore":
            assert (await manager.astore("documents", SlowStream(b"content", gate))).size == 7
        elif name == "aput_stream":
            assert (await manager.aput_stream(**old, stream=SlowStream(b"content", gate))).size == 7
        elif name == "aput_bytes":
            policy = StoragePolicy("documents", "memory", validators=(slow_validator,))
            with manager.override(policies={"documents": policy}):
                assert (await manager.aput_bytes(**old, content=b"content")).size == 7
        elif name == "aopen":
            async with await manager.aopen(ref) as stream:
                assert await stream.read() == b"content"
        else:
            await getattr(manager, name)(ref)

    async def both() -> None:
        await asyncio.gather(use(), gate.open())

    asyncio.run(both())


@pytest.mark.parametrize("name", ["astore", "aput_stream"])
def test_what_a_cancelled_task_stored_is_deleted(name):
    gate, deleted = Gate(), threading.Event()

    class Telling(MemoryStorageBackend):
        def put_stream(self, **arguments: Any) -> StoredObjectRef:
            ref = super().put_stream(**arguments)
            gate.wait()
            return ref

        def delete(self, ref: StoredObjectRef) -> None:
            super().delete(ref)
            deleted.set()

    manager = StorageManager({"memory": Telling()}, POLICIES)
    stream = io.BytesIO(b"content")
    old = {"storage_key": "documents", "model_name": "document", "entity_id": 1, "field_name": "report"}

    async def main() -> None:
        storing = manager.astore("documents", stream) if name == "astore" else manager.aput_stream(**old, stream=stream)
        task = asyncio.ensure_future(storing)
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.opened.set()

    asyncio.run(main())
    assert deleted.wait(30)
    assert stored_in(manager) == []


def test_an_upload_whose_task_was_cancelled_reads_no_further():
    gate, ended, reads = Gate(), threading.Event(), []

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            reads.append(len(buffer))
            gate.wait()
            return len(buffer)

        def close(self) -> None:
            ended.set()
            super().close()

    manager = StorageManager({"memory": MemoryStorageBackend()}, POLICIES)

    async def main() -> None:
        task = asyncio.ensure_future(manager.astore("documents", Upload(Endless())))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.opened.set()

    asyncio.run(main())
    assert any(gc.collect() >= 0 and ended.wait(0.1) for _ in range(300))  # nobody has the stream any more
    assert len(reads) == 1
    assert stored_in(manager) == []


def test_many_async_stores_run_side_by_side():
    together = threading.Barrier(3)

    class Waiting(MemoryStorageBackend):
        def put_stream(self, **arguments: Any) -> StoredObjectRef:
            together.wait(30)
            return super().put_stream(**arguments)

    manager = StorageManager({"memory": Waiting()}, POLICIES, max_workers=3)

    async def main() -> None:
        await asyncio.gather(*(manager.astore("documents", str(number)) for number in range(6)))

    asyncio.run(main())
    assert len(stored_in(manager)) == 6


def test_a_backend_that_has_the_location_already_is_told(manager, monkeypatch):
    monkeypatch.setattr("granite_storage.manager.new_location", lambda prefix, suffix: "docs/taken")
    first = manager.store("documents", b"first")
    with pytest.raises(ObjectExistsError):
        manager.store("documents", b"second")
    assert first.read() == b"first"
