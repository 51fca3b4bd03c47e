"""Whole objects from S3: into memory, and into a file, several parts at once."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from granite_storage import StorageManager, StoragePolicy, StoredFile
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ChecksumMismatchError, ObjectNotFoundError
from granite_storage.testing.suite.sources import content_of
from tests.backends.wire import Wire

MIB = 2**20
SIZE = 48 * MIB + 5
PARTS = 7


@pytest.fixture
def content(s3_bucket: Any) -> bytes:
    """The content of the object "large" in the test's bucket: seven parts."""
    content = content_of(SIZE)
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="large", Body=content)
    return content


@pytest.fixture
def stored(s3: S3StorageBackend, content: bytes, ref_of: Callable[..., Any]) -> StoredFile:
    return file_in(s3, ref_of("large", content))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "file").open("x+b", buffering=0) as file:
        yield cast("BinaryIO", file)


@pytest.fixture
def ranges(s3_client: Any) -> list[tuple[str, str | None]]:
    """The ranges that were asked for, and on what condition, in order."""
    seen: list[tuple[str, str | None]] = []

    def note(params: Any, **_: Any) -> None:
        seen.append((params["headers"].get("Range", "all"), params["headers"].get("If-Match")))

    s3_client.meta.events.register("before-call.s3.GetObject", note)
    return seen


def file_in(backend: S3StorageBackend, ref: Any) -> StoredFile:
    return StorageManager({"s3": backend}, {"documents": StoragePolicy("documents", "s3")}).file(ref)


@pytest.mark.s3_servers("moto", "rgw", "rclone")
@pytest.mark.parametrize("verify", [False, True])
def test_save_to_gives_the_content_of_a_large_object(
    stored: StoredFile, content: bytes, tmp_path: Path, verify: bool
) -> None:
    assert stored.save_to(tmp_path / "saved", verify=verify).read_bytes() == content
    assert os.listdir(tmp_path) == ["saved"]


def test_each_part_is_asked_for_once_and_on_condition_of_the_first_ones_etag(
    stored: StoredFile, ranges: list[Any], s3_bucket: Any, tmp_path: Path
) -> None:
    stored.save_to(tmp_path / "saved")
    etag = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key="large")["ETag"]
    part = 8 * MIB
    expected = [(f"bytes={start}-{min(start + part, SIZE) - 1}", etag) for start in range(part, SIZE, part)]
    assert ranges[0] == (f"bytes=0-{part - 1}", None)
    assert sorted(ranges[1:]) == sorted(expected)


def test_parts_come_side_by_side(stored: StoredFile, on_request: Callable[..., None], tmp_path: Path) -> None:
    together = threading.Barrier(3)
    on_request("GetObject", lambda params: None if "bytes=0-" in params["headers"]["Range"] else together.wait(30))
    stored.save_to(tmp_path / "saved")  # six parts after the first, and each waits for two others


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB])
def test_a_small_object_is_one_request(
    s3: S3StorageBackend, ranges: list[Any], ref_of: Callable[..., Any], file: BinaryIO, size: int
) -> None:
    ref = s3.put_bytes(key="small", content=content_of(size)).replace(size=size)
    seen: list[bytes] = []
    assert s3.read_into(ref, file, follow=seen.append) == size
    assert b"".join(seen) == Path(file.name).read_bytes() == content_of(size)
    assert ranges == [("all", None)]


@pytest.mark.parametrize("size", [0, 5, 9 * MIB])
def test_a_wrong_size_in_the_ref_does_not_matter(s3: S3StorageBackend, file: BinaryIO, size: int) -> None:
    for told in (1, 100 * MIB):
        ref = s3.put_bytes(key=f"told-{told}", content=content_of(size)).replace(size=told)
        os.truncate(file.name, 0)
        assert s3.read_into(ref, file) == size
        assert Path(file.name).read_bytes() == content_of(size)


def test_the_content_is_followed_from_its_beginning_while_later_parts_come(
    s3: S3StorageBackend, stored: StoredFile, content: bytes, on_request: Callable[..., None], file: BinaryIO
) -> None:
    followed = threading.Event()
    seen: list[bytes] = []
    threads: set[int] = set()

    def last_waits(params: Any) -> None:
        if params["headers"]["Range"].endswith(f"-{SIZE - 1}"):
            assert followed.wait(30), "nothing is followed before all is there"

    def follow(piece: bytes) -> None:
        seen.append(piece)
        threads.add(threading.get_ident())
        followed.set()

    on_request("GetObject", last_waits)
    s3.read_into(stored.ref, file, follow=follow)
    assert b"".join(seen) == content
    assert threads == {threading.get_ident()}


def test_a_server_without_ranges_sends_the_whole_once(
    s3: S3StorageBackend, stored: StoredFile, content: bytes, on_request: Callable[..., None], file: BinaryIO
) -> None:
    asked: list[str] = []
    on_request("GetObject", lambda params: asked.append(params["headers"].pop("Range")))
    seen: list[bytes] = []
    assert s3.read_into(stored.ref, file, follow=seen.append) == SIZE
    assert b"".join(seen) == Path(file.name).read_bytes() == content
    assert len(asked) == 1


@pytest.mark.parametrize("verify", [False, True])
def test_memory_is_bounded(stored: StoredFile, tmp_path: Path, verify: bool) -> None:
    tracemalloc.start()
    try:
        stored.save_to(tmp_path / "saved", verify=verify)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


# What goes wrong


def _when(number: int, action: Callable[[], Any]) -> Callable[[Any], None]:
    """Before the request of that number."""
    requests: list[Any] = []

    def act(params: Any) -> None:
        requests.append(params)
        if len(requests) == number:
            action()

    return act


@pytest.mark.s3_servers("moto", "rgw")
def test_an_object_that_is_replaced_meanwhile_is_an_error_and_nothing_is_written(
    stored: StoredFile, on_request: Callable[..., None], s3_bucket: Any, tmp_path: Path
) -> None:
    (tmp_path / "saved").write_bytes(b"before")
    _replace_meanwhile(on_request, s3_bucket, bytes(SIZE))
    with pytest.raises(BackendError, match=r"'large' in bucket .* was changed while it was read"):
        stored.save_to(tmp_path / "saved")
    assert os.listdir(tmp_path) == ["saved"]
    assert (tmp_path / "saved").read_bytes() == b"before"


@pytest.mark.s3_servers("rgw")  # moto answers with an internal error
def test_an_object_that_is_replaced_by_a_shorter_one_is_an_error_too(
    stored: StoredFile, on_request: Callable[..., None], s3_bucket: Any, tmp_path: Path
) -> None:
    _replace_meanwhile(on_request, s3_bucket, b"short")
    with pytest.raises(BackendError, match=r"'large' in bucket .* was changed while it was read"):
        stored.save_to(tmp_path / "saved")


def _replace_meanwhile(on_request: Callable[..., None], bucket: Any, content: bytes) -> None:
    on_request("GetObject", _when(3, lambda: bucket.client.put_object(Bucket=bucket.name, Key="large", Body=content)))


def test_a_part_that_fails_stops_the_others(
    stored: StoredFile, ranges: list[Any], on_request: Callable[..., None], s3_bucket: Any, tmp_path: Path
) -> None:
    removed = threading.Event()

    def act(params: Any) -> None:
        if "bytes=0-" in params["headers"]["Range"]:
            return
        if params["headers"]["Range"].startswith(f"bytes={8 * MIB}-"):
            s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key="large")
            removed.set()
        removed.wait(30)

    on_request("GetObject", act)
    with pytest.raises(ObjectNotFoundError, match=r"'large' in bucket .* was deleted while it was read"):
        stored.save_to(tmp_path / "saved")
    assert len(ranges) < PARTS
    assert os.listdir(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("granite-storage-read")]


def test_a_missing_object_leaves_no_file(s3: S3StorageBackend, ref_of: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match="'nowhere'"):
        file_in(s3, ref_of("nowhere", b"x")).save_to(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"size": SIZE + 1}, {"checksum": "sha256:" + "0" * 64}])
def test_what_is_not_as_the_ref_says_leaves_no_file(stored: StoredFile, tmp_path: Path, wrong: dict[str, Any]) -> None:
    other = stored.manager.file(stored.ref.replace(**wrong))
    with pytest.raises(ChecksumMismatchError, match="its ref says"):
        other.save_to(tmp_path / "saved", verify=True)
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_disk_comes_out_as_it_is(s3: S3StorageBackend, stored: StoredFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (tmp_path / "file").open("rb") as unwritable, pytest.raises(OSError, match="Bad file descriptor"):
        s3.read_into(stored.ref, unwritable)


def test_connections_that_break_off_are_taken_up_where_they_did(
    s3_bucket: Any, wire: Wire, content: bytes, ref_of: Callable[..., Any], tmp_path: Path
) -> None:
    server = replace(s3_bucket.server, endpoint_url=wire.url)
    client = server.client(retries={"total_max_attempts": 3}, max_pool_connections=1)
    wired = S3StorageBackend(bucket=s3_bucket.name, client=client, **server.backend_options)
    ref = ref_of("large", content)
    for read in (
        lambda: wired.get(ref),
        lambda: file_in(wired, ref).save_to(tmp_path / "saved", verify=True).read_bytes(),
        lambda: b"".join(file_in(wired, ref).iter_bytes()),
    ):
        before = wire.received
        wire.cut(3 * MIB, 11 * MIB)
        assert read() == content
        assert wire.cuts_left == 0
        assert wire.received - before < SIZE + 12 * MIB  # what was there is not fetched again
    client.close()


def test_no_connection_is_left_after_an_error(
    wired: S3StorageBackend, wire: Wire, content: bytes, ref_of: Callable[..., Any], tmp_path: Path
) -> None:
    ref = ref_of("large", content)

    class FullError(Exception):
        pass

    def full(piece: bytes) -> None:
        raise FullError

    with (tmp_path / "file").open("x+b") as file, pytest.raises(FullError):
        wired.read_into(ref, file, follow=full)
    assert wire.wait_until(lambda: wire.open == 0)
    assert wire.received < SIZE // 2 + 12 * MIB  # and the parts that were on their way stopped


def test_a_part_that_comes_after_a_second_interrupt_is_written_nowhere(
    s3: S3StorageBackend,
    content: bytes,
    ref_of: Callable[..., Any],
    on_request: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools = []

    class Interrupted(ThreadPoolExecutor):
        def __exit__(self, *_: object) -> None:  # the second interrupt, while the threads are waited for
            pools.append(self)
            raise KeyboardInterrupt

    arrived, go_on = threading.Event(), threading.Event()

    def wait(params: Any) -> None:
        if params["headers"]["Range"] != f"bytes=0-{8 * MIB - 1}":
            arrived.set()
            assert go_on.wait(30)

    def interrupt(piece: bytes) -> None:
        assert arrived.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", Interrupted)
    on_request("GetObject", wait)
    with (tmp_path / "file").open("x+b", buffering=0) as file, pytest.raises(KeyboardInterrupt):
        number = file.fileno()
        s3.read_into(ref_of("large", content), cast("BinaryIO", file), follow=interrupt)
    another = os.open(tmp_path / "another", os.O_RDWR | os.O_CREAT)
    if another != number:
        os.dup2(another, number)  # as whoever opens a file next may get it
        os.close(another)
    go_on.set()
    pools[0].shutdown()
    os.close(number)
    assert (tmp_path / "another").read_bytes() == b""
