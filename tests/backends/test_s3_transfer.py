from __future__ import annotations

import contextvars
import io
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from granite_storage.backends import s3_parts
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import (
    BackendError,
    ContentTooLargeError,
    ObjectExistsError,
    StorageError,
    UnassignableError,
)
from granite_storage.intake.stopping import watch_stop
from granite_storage.intake.stream import CheckedStream
from granite_storage.testing.suite.sources import content_of, one_shot, ref_to, then

PART = 5 * 1024**2


@pytest.fixture
def parted(s3_bucket: Any, s3_client: Any) -> S3StorageBackend:
    """A backend with the smallest parts."""
    return S3StorageBackend(bucket=s3_bucket.name, client=s3_client, part_size=PART)


def _uploads(backend: S3StorageBackend, client: Any) -> list[str]:
    return [found["Key"] for found in client.list_multipart_uploads(Bucket=backend.bucket).get("Uploads", ())]


def test_a_small_object_is_one_put(parted: S3StorageBackend, requests: list[str]) -> None:
    for size in (0, 1, PART - 1):
        requests.clear()
        parted.put_stream(key=f"{size}", stream=one_shot(content_of(size), 1_000_000))
        assert requests == ["PutObject"]


def test_a_large_one_goes_in_parts(parted: S3StorageBackend, requests: list[str]) -> None:
    ref = parted.put_stream(key="a", stream=one_shot(content_of(2 * PART + 1), 1_000_000))
    assert sorted(requests) == ["CompleteMultipartUpload", "CreateMultipartUpload", *["UploadPart"] * 3]
    assert ref.size == 2 * PART + 1
    assert parted.get(ref) == content_of(2 * PART + 1)


@pytest.mark.parametrize("size", [PART, 2 * PART - 1, 2 * PART, 2 * PART + 1])
def test_sizes_around_the_border_of_a_part_come_back(parted: S3StorageBackend, size: int) -> None:
    for number, stream in enumerate((io.BytesIO(content_of(size)), one_shot(content_of(size), 999_999))):
        ref = parted.put_stream(key=f"{number}", stream=stream)
        assert ref.size == size
        assert parted.get(ref) == content_of(size)


@pytest.mark.parametrize("before", [0, 10, PART, 3 * PART])
@pytest.mark.parametrize("error", [ContentTooLargeError("x"), ReadTimeoutError(endpoint_url="x"), KeyboardInterrupt()])
def test_an_error_of_the_stream_aborts_the_upload_and_comes_out_as_it_is(
    parted: S3StorageBackend, s3_client: Any, before: int, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        parted.put_stream(key="a", stream=then(content_of(before), fail, 1_000_000))
    assert raised.value is error
    assert _uploads(parted, s3_client) == []
    assert not parted.exists(ref_to(parted, "a"))


@pytest.mark.parametrize(
    ("size", "request_name"), [(10, "PutObject"), (2 * PART, "UploadPart"), (2 * PART, "CompleteMultipartUpload")]
)
def test_an_interrupt_while_the_server_is_waited_for_leaves_nothing(
    parted: S3StorageBackend, s3_client: Any, requests: list[str], size: int, request_name: str
) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    s3_client.meta.events.register(f"after-call.s3.{request_name}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        parted.put_stream(key="a", stream=one_shot(content_of(size), 1_000_000))
    assert request_name in requests
    assert _uploads(parted, s3_client) == []
    assert not parted.exists(ref_to(parted, "a"))


def test_an_interrupted_put_does_not_delete_what_another_put_there(
    parted: S3StorageBackend, s3_bucket: Any, on_request: Callable[..., None]
) -> None:
    def interrupt(params: Any) -> None:
        s3_bucket.client.put_object(Bucket=parted.bucket, Key="a", Body=b"x")
        raise KeyboardInterrupt

    on_request("PutObject", interrupt)
    with pytest.raises(KeyboardInterrupt):
        parted.put_bytes(key="a", content=b"x")
    assert parted.get(ref_to(parted, "a")) == b"x"


@pytest.mark.parametrize("request_name", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_error_of_the_server_aborts_the_upload(
    parted: S3StorageBackend, s3_client: Any, on_request: Callable[..., None], request_name: str
) -> None:
    def refuse(params: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, request_name)

    on_request(request_name, refuse)
    with pytest.raises(BackendError, match="SlowDown"):
        parted.put_bytes(key="a", content=content_of(3 * PART))
    assert _uploads(parted, s3_client) == []
    assert not parted.exists(ref_to(parted, "a"))


def test_a_large_object_that_loses_to_another_leaves_no_parts(parted: S3StorageBackend, s3_client: Any) -> None:
    late = then(content_of(2 * PART), lambda: _put_once(parted), 1_000_000)
    with pytest.raises(ObjectExistsError):
        parted.put_stream(key="a", stream=late)
    assert parted.get(ref_to(parted, "a")) == b"early"
    assert _uploads(parted, s3_client) == []


def _put_once(backend: S3StorageBackend) -> None:
    if not backend.exists(ref_to(backend, "a")):
        backend.put_bytes(key="a", content=b"early")


def test_a_stream_is_never_sought(parted: S3StorageBackend) -> None:
    class Forward(io.BytesIO):
        def seek(self, *args: Any) -> int:
            raise AssertionError("sought")

        tell = seek  # type: ignore[assignment]

    for number, size in enumerate((10, 2 * PART)):
        assert parted.put_stream(key=f"{number}", stream=Forward(content_of(size))).size == size


def test_a_stream_that_has_no_data_yet_is_not_taken_for_its_end(parted: S3StorageBackend) -> None:
    class Waiting:
        def read(self, amount: int = -1) -> None:
            return None

    with pytest.raises(UnassignableError, match="non-blocking"):
        parted.put_stream(key="a", stream=Waiting())  # type: ignore[arg-type]


def test_parts_grow_with_a_size_that_is_known(
    s3: S3StorageBackend, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "MAX_PARTS", 3)
    size = 40 * 1024**2
    ref = s3.put_stream(key="a", stream=one_shot(content_of(size), 1_000_000), size=size)
    assert requests.count("UploadPart") <= 3
    assert ref.size == size


def test_more_parts_than_s3_takes_are_an_error_with_its_remedy(
    parted: S3StorageBackend, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "MAX_PARTS", 2)
    with pytest.raises(ContentTooLargeError, match="give its size beforehand"):
        parted.put_stream(key="a", stream=one_shot(content_of(3 * PART), 1_000_000))
    assert _uploads(parted, s3_client) == []


def test_a_size_beyond_s3s_limit_is_refused_before_a_byte_is_read(
    parted: S3StorageBackend, requests: list[str]
) -> None:
    stream = io.BytesIO(b"x")
    with pytest.raises(ContentTooLargeError, match="5497558138880 bytes, S3's limit"):
        parted.put_stream(key="a", stream=stream, size=5 * 2**40 + 1)
    assert stream.tell() == 0 and requests == []


def test_parts_of_a_stream_of_unknown_size_grow(
    parted: S3StorageBackend, on_request: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "_EQUAL", 1)  # in place of 1000
    sizes: list[int] = []
    on_request("UploadPart", lambda params: sizes.append(len(params["body"])))
    ref = parted.put_stream(key="a", stream=one_shot(content_of(4 * PART), 1_000_000))
    assert sorted(sizes) == [PART, PART, 2 * PART]
    assert parted.get(ref) == content_of(4 * PART)


def test_parts_are_sent_while_the_stream_is_read(parted: S3StorageBackend, on_request: Callable[..., None]) -> None:
    sent = threading.Event()
    on_request("UploadPart", lambda params: sent.set())
    parted.put_stream(key="a", stream=then(content_of(2 * PART), lambda: _true(sent.wait(30)), 1_000_000))


def test_parts_are_sent_side_by_side(parted: S3StorageBackend, on_request: Callable[..., None]) -> None:
    gate = threading.Barrier(3)
    on_request("UploadPart", lambda params: gate.wait(30))
    parted.put_bytes(key="a", content=content_of(3 * PART))


def test_all_parts_have_come_to_an_end_before_the_upload_is_aborted(
    parted: S3StorageBackend, s3_client: Any, requests: list[str]
) -> None:
    started, aborted, done = threading.Event(), threading.Event(), []

    def act(params: Any, **_: Any) -> None:
        if "partNumber=1" in params["url"]:
            started.wait(30)
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "UploadPart")
        started.set()
        aborted.wait(0.5)  # it must not come

    s3_client.meta.events.register("before-call.s3.AbortMultipartUpload", lambda **_: aborted.set())
    s3_client.meta.events.register("before-call.s3.UploadPart", act)
    s3_client.meta.events.register("after-call.s3.UploadPart", lambda **_: done.append(len(requests)))
    with pytest.raises(BackendError, match="SlowDown"):
        parted.put_bytes(key="a", content=content_of(2 * PART))
    assert requests[-1] == "AbortMultipartUpload"
    assert done == [len(requests) - 1]
    assert _uploads(parted, s3_client) == []


def test_after_a_part_has_failed_the_stream_is_read_no_further(
    parted: S3StorageBackend, on_request: Callable[..., None]
) -> None:
    failed = threading.Event()

    def refuse(params: Any) -> None:
        failed.set()
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "UploadPart")

    on_request("UploadPart", refuse)
    endless = then(content_of(2 * PART), lambda: pytest.fail("it was read to its end"), 1_000_000)
    stream = _Slowly(endless, 2 * PART - 1_000_000, lambda: failed.wait(30))
    with pytest.raises(BackendError, match="SlowDown"):
        parted.put_stream(key="a", stream=stream)  # type: ignore[arg-type]


class _Slowly(io.RawIOBase):
    """Calls something before what is read after so many bytes."""

    def __init__(self, stream: Any, after: int, wait: Callable[[], Any]) -> None:
        self._stream, self._left, self._wait = stream, after, wait

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            self._wait()
            threading.Event().wait(0.05)
        count = self._stream.readinto(memoryview(buffer)[:65536])
        self._left -= count
        return int(count)


@pytest.mark.parametrize("size", [10, 2 * PART])
@pytest.mark.parametrize("late", [False, True])
def test_an_upload_whose_task_was_cancelled_leaves_nothing(
    parted: S3StorageBackend, s3_client: Any, size: int, late: bool
) -> None:
    stopping = threading.Event()
    content = io.BytesIO(content_of(size)) if not late else then(content_of(size), stopping.set, 1_000_000)
    source: Any = CheckedStream(content)
    if not late:
        stopping.set()

    def store() -> None:
        watch_stop(stopping)
        parted.put_stream(key="a", stream=source)

    with pytest.raises(StorageError, match="given up"):
        contextvars.copy_context().run(store)
    assert _uploads(parted, s3_client) == []
    assert not parted.exists(ref_to(parted, "a"))


def test_what_failed_comes_out_though_the_abort_fails_as_well(
    parted: S3StorageBackend, on_request: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(params: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "secret-name"}}, "AbortMultipartUpload")

    on_request("AbortMultipartUpload", refuse)
    error = ContentTooLargeError("x")

    def fail() -> None:
        raise error

    with pytest.raises(ContentTooLargeError) as raised:
        parted.put_stream(key="a", stream=then(content_of(2 * PART), fail, 1_000_000))
    assert raised.value is error
    assert "left to the sweep: ClientError" in caplog.text
    assert "secret-name" not in caplog.text


def test_each_body_goes_at_once_with_its_checksum_in_a_header(
    parted: S3StorageBackend, on_request: Callable[..., None]
) -> None:
    seen: list[tuple[str, str]] = []

    def look(params: Any) -> None:
        expected = b64encode(crc32(params["body"]).to_bytes(4, "big")).decode()
        seen.append((params["headers"]["x-amz-checksum-crc32"], expected))
        assert not {"x-amz-trailer", "expect"} & {name.lower() for name in params["headers"]}

    on_request("PutObject", look)
    on_request("UploadPart", look)
    parted.put_bytes(key="small", content=b"x")
    parted.put_bytes(key="large", content=content_of(2 * PART))
    assert len(seen) == 3
    assert all(given == expected for given, expected in seen)


def test_checksums_can_be_left_out_or_be_others(s3_server: Any, s3_bucket: Any) -> None:
    client = s3_server.client(request_checksum_calculation="when_required")
    seen: list[set[str]] = []
    client.meta.events.register(
        "before-send.s3", lambda request, **_: seen.append({name.lower() for name in request.headers})
    )
    for given in ({}, {"ChecksumAlgorithm": "SHA256"}):
        backend = S3StorageBackend(bucket=s3_bucket.name, client=client, part_size=PART, extra_put_kwargs=given)
        seen.clear()
        for size in (1, 2 * PART):
            backend.put_bytes(key=f"{size}{len(given)}", content=content_of(size))
        sums = [{name for name in names if name.startswith("x-amz-checksum-")} for names in seen]
        assert all("x-amz-checksum-crc32" not in names for names in sums)
        assert sum("x-amz-checksum-sha256" in names for names in sums) == (3 if given else 0)
    client.close()


def _true(found: bool) -> None:
    assert found


def test_memory_is_bounded_however_many_uploads_run(s3_bucket: Any) -> None:
    """Each is larger than all memory, and what takes the parts is slower than what gives them."""
    ran = subprocess.run(
        [sys.executable, "-c", _MANY_UPLOADS, s3_bucket.url()], check=True, capture_output=True, text=True, timeout=300
    )
    peak = int(ran.stdout) / 1024**2
    assert peak < 96, f"resident memory grew by {peak:.0f} MiB"


_MANY_UPLOADS = """
import io, re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from granite_storage import backend_from_url


class Zeros(io.RawIOBase):
    left = 24 * 2**20

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        self.left -= count
        return count


def resident(member):
    return int(re.search(rf"^{member}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) * 1024


start = resident("VmRSS")
backend = backend_from_url(sys.argv[1])
with ThreadPoolExecutor(8) as pool:
    refs = list(pool.map(lambda number: backend.put_stream(key=f"{number}", stream=Zeros()), range(8)))
assert all(ref.size == Zeros.left for ref in refs)
print(resident("VmHWM") - start)
"""
