from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from granite_storage.backends import s3_transfer
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ContentTooLargeError, ObjectExistsError, UnassignableError
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
    monkeypatch.setattr(s3_transfer, "_MAX_PARTS", 3)
    size = 40 * 1024**2
    ref = s3.put_stream(key="a", stream=one_shot(content_of(size), 1_000_000), size=size)
    assert requests.count("UploadPart") <= 3
    assert ref.size == size


def test_more_parts_than_s3_takes_are_an_error_with_its_remedy(
    parted: S3StorageBackend, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfer, "_MAX_PARTS", 2)
    with pytest.raises(ContentTooLargeError, match="give its size beforehand"):
        parted.put_stream(key="a", stream=one_shot(content_of(3 * PART), 1_000_000))
    assert _uploads(parted, s3_client) == []


def test_a_large_copy_goes_in_parts(
    parted: S3StorageBackend, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfer, "COPY_IN_PARTS", PART)
    ref = parted.put_bytes(key="a", content=content_of(2 * PART + 1), content_type="text/csv")
    requests.clear()
    parted.copy(ref, key="b", content_type="text/plain")
    assert requests.count("UploadPartCopy") == 3
    assert "GetObject" not in requests
    assert parted.get(ref_to(parted, "b")) == content_of(2 * PART + 1)


def test_memory_is_bounded_whatever_the_size(s3: S3StorageBackend, s3_client: Any) -> None:
    size, megabyte = 256 * 1024**2, bytes(1024**2)

    class Zeros(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            return count

    def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        if model.name == "UploadPart":
            for _ in range(32):
                sha256(megabyte)  # slower than the stream, so that parts queue up
        return SimpleNamespace(status_code=200), {"ETag": '"x"', "UploadId": "1", "ResponseMetadata": {}}

    # The real server is in this process: its memory must not be counted.
    s3_client.meta.events.register("before-call.s3", answer)
    tracemalloc.start()
    try:
        ref = s3.put_stream(key="a", stream=Zeros())  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ref.size == size
    assert peak < 96 * 1024**2
