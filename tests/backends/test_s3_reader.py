from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ObjectNotFoundError
from granite_storage.testing.suite.sources import content_of


@pytest.fixture
def ranges(s3_client: Any) -> list[str]:
    """The ranges that were asked for, in order."""
    seen: list[str] = []
    s3_client.meta.events.register(
        "before-call.s3.GetObject", lambda params, **_: seen.append(params["headers"].get("Range", "all"))
    )
    return seen


def test_opening_reads_nothing(s3: S3StorageBackend, ranges: list[str]) -> None:
    with s3.open(s3.put_bytes(key="a", content=content_of(1000))) as stream:
        assert stream.seek(0, os.SEEK_END) == 1000
        assert stream.read() == b""
    assert ranges == []


def test_only_what_is_asked_for_is_fetched(s3: S3StorageBackend, ranges: list[str]) -> None:
    content = content_of(5_000_000)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        stream.seek(-22, os.SEEK_END)
        assert stream.read() == content[-22:]
        stream.seek(1000)
        assert stream.read(100) == content[1000:1100]
    assert ranges == ["bytes=4999978-4999999", "bytes=1000-263143"]


def test_reading_straight_on_takes_few_requests(s3: S3StorageBackend, ranges: list[str]) -> None:
    content = content_of(8_000_000)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        assert b"".join(iter(lambda: stream.read(10_000), b"")) == content
    assert len(ranges) == 4


def test_reading_all_is_one_request(s3: S3StorageBackend, ranges: list[str]) -> None:
    content = content_of(3_000_000)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        assert stream.read() == content
    assert ranges == ["bytes=0-2999999"]


def test_an_object_that_changes_while_it_is_read_is_an_error(s3: S3StorageBackend, s3_client: Any) -> None:
    ref = s3.put_bytes(key="a", content=content_of(1_000_000))
    with s3.open(ref) as stream:
        stream.read(10)
        s3_client.put_object(Bucket=s3.bucket, Key="a", Body=bytes(1_000_000))
        with pytest.raises(BackendError, match="changed while it was read"):
            stream.read()


def test_an_object_that_is_deleted_while_it_is_read_is_missing(s3: S3StorageBackend) -> None:
    ref = s3.put_bytes(key="a", content=content_of(1_000_000))
    with s3.open(ref) as stream:
        s3.delete(ref)
        with pytest.raises(ObjectNotFoundError):
            stream.read()


def _break_bodies(s3_client: Any, times: int) -> list[int]:
    """Let each of the first bodies break off after 1000 bytes."""
    broken: list[int] = []

    def after(parsed: dict[str, Any], **_: Any) -> None:
        if len(broken) < times and "Body" in parsed:
            broken.append(1)
            parsed["Body"] = Breaking(parsed["Body"])

    s3_client.meta.events.register("after-call.s3.GetObject", after)
    return broken


class Breaking:
    def __init__(self, body: Any) -> None:
        self.body = body
        self.given = 0

    def read(self, amount: int) -> bytes:
        if self.given:
            raise ReadTimeoutError(endpoint_url="x")
        self.given = 1
        return self.body.read(min(amount, 1000))

    def close(self) -> None:
        self.body.close()


def test_a_dropped_connection_is_taken_up_where_it_broke_off(s3: S3StorageBackend, s3_client: Any) -> None:
    content = content_of(1_000_000)
    ref = s3.put_bytes(key="a", content=content)
    broken = _break_bodies(s3_client, 4)
    with s3.open(ref) as stream:
        assert stream.read() == content
    assert len(broken) == 4


def test_a_connection_that_drops_each_time_is_an_error(s3: S3StorageBackend, s3_client: Any) -> None:
    ref = s3.put_bytes(key="a", content=content_of(1_000_000))
    _break_bodies(s3_client, 10**6)
    Breaking.given = 1
    with s3.open(ref) as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Breaking, "__init__", lambda self, body: self.__dict__.update(body=body, given=1))
        with pytest.raises(BackendError, match="ReadTimeoutError") as raised:
            stream.read()
    assert isinstance(raised.value.__cause__, ReadTimeoutError)


def test_a_server_without_ranges_gives_the_right_bytes(s3: S3StorageBackend, on_request: Callable[..., None]) -> None:
    content = content_of(1_000_000)
    ref = s3.put_bytes(key="a", content=content)
    on_request("GetObject", _forget_range)
    with s3.open(ref) as stream:
        stream.seek(600_000)
        assert stream.read(10) == content[600_000:600_010]
        stream.seek(10)
        assert stream.read() == content[10:]


def _forget_range(params: Any) -> None:
    del params["headers"]["Range"]


def test_any_mix_of_seeks_and_reads_gives_what_a_file_gives(s3: S3StorageBackend) -> None:
    content = content_of(2_000_000)
    dice, expected = random.Random(1), io.BytesIO(content)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        for _ in range(40):
            offset = dice.randrange(-300_000, 300_000)
            position = max(0, expected.tell() + offset)
            assert stream.seek(position) == expected.seek(position)
            count = dice.choice((-1, 1, 70_000, 400_000)) if dice.random() < 0.3 else dice.randrange(5000)
            assert stream.read(count) == expected.read(count)
        with pytest.raises(ValueError, match="negative"):
            stream.seek(-1)


def test_a_closed_stream_says_so(s3: S3StorageBackend) -> None:
    stream = s3.open(s3.put_bytes(key="a", content=b"x"))
    stream.close()
    for act in (stream.read, lambda: stream.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            act()
