from __future__ import annotations

import csv
import gc
import io
import os
import random
import zipfile
from collections.abc import Callable
from typing import Any

import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from botocore.exceptions import ReadTimeoutError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ObjectNotFoundError
from granite_storage.testing.suite.sources import content_of
from tests.backends.wire import Wire


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
        stream.seek(-100_000, os.SEEK_END)
        assert stream.read(10) == content[-100_000:-99_990]
    assert ranges == ["bytes=4737856-4999999", "bytes=1000-132071"]  # the last 256 KiB at once; a buffer of 128 KiB


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


def test_a_server_that_overlooks_the_condition_gives_no_mixed_bytes(
    s3: S3StorageBackend, s3_client: Any, on_request: Callable[..., None]
) -> None:
    ref = s3.put_bytes(key="a", content=content_of(1_000_000))
    on_request("GetObject", lambda params: params["headers"].pop("If-Match"))
    with s3.open(ref) as stream:
        stream.read(10)
        s3_client.put_object(Bucket=s3.bucket, Key="a", Body=bytes(1_000_000))
        with pytest.raises(BackendError, match=r"'a' in bucket .* was changed while it was read"):
            stream.read()


def test_an_object_that_is_deleted_while_it_is_read_is_an_error_that_says_so(s3: S3StorageBackend) -> None:
    ref = s3.put_bytes(key="a", content=content_of(1_000_000))
    with s3.open(ref) as stream:
        stream.read(10)
        s3.delete(ref)
        with pytest.raises(ObjectNotFoundError, match=r"'a' in bucket .* was deleted while it was read"):
            stream.read()


# Programs that read files


MIB = 2**20


@pytest.fixture
def large_zip(s3_bucket: Any) -> bytes:
    """The content of the object "large.zip" in the test's bucket: 64 MB and some, in a thousand members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(64):
            archive.writestr(f"large/{number:04}.bin", random.Random(number).randbytes(MIB))
        for number in range(936):
            archive.writestr(f"small/{number:04}.txt", f"member {number}")
    content = made.getvalue()
    assert len(content) > 64 * MIB
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="large.zip", Body=content)
    return content


def test_the_directory_of_a_large_zip_is_read_in_one_request_of_much_less_than_1_mb(
    wired: S3StorageBackend, wire: Wire, ref_of: Callable[..., Any], large_zip: bytes
) -> None:
    with wired.open(ref_of("large.zip", large_zip)) as stream:
        before = wire.asked
        with zipfile.ZipFile(stream) as archive:
            assert len(archive.namelist()) == 1000
            assert wire.asked == before + 1
            assert wire.received < MIB // 2
            assert archive.read("small/0700.txt") == b"member 700"
            assert archive.read("large/0033.bin") == random.Random(33).randbytes(MIB)
            assert wire.asked <= before + 4
    assert wire.received < 2 * MIB


def test_a_column_of_a_parquet_file_is_read_without_the_others(
    wired: S3StorageBackend, wire: Wire, ref_of: Callable[..., Any]
) -> None:
    columns = {f"column {number}": content_of(300_000 + number) for number in range(16)}
    table = pyarrow.table({name: [value] * 4 for name, value in columns.items()})
    made = io.BytesIO()
    pyarrow.parquet.write_table(table, made, compression=None, use_dictionary=False, row_group_size=2)
    ref = wired.put_bytes(key="table.parquet", content=made.getvalue())
    wire.received = 0
    with wired.open(ref) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        assert file.num_row_groups == 2
        assert wire.received < MIB // 2
        read = file.read(columns=["column 9"])
    assert read.column("column 9").to_pylist() == [columns["column 9"]] * 4
    assert wire.received < len(made.getvalue()) // 5
    assert pyarrow.parquet.read_table(wired.open(ref)).equals(table)


def test_an_image_is_opened_without_its_pixels(wired: S3StorageBackend, wire: Wire) -> None:
    image = PIL.Image.frombytes("RGB", (1200, 900), content_of(1200 * 900 * 3))
    made = io.BytesIO()
    image.save(made, "PNG")
    ref = wired.put_bytes(key="a.png", content=made.getvalue())
    wire.received = 0
    with wired.open(ref) as stream, PIL.Image.open(stream) as opened:
        assert (opened.format, opened.size) == ("PNG", (1200, 900))
        assert wire.received < MIB // 4 < len(made.getvalue())
        assert opened.tobytes() == image.tobytes()


def test_a_csv_file_is_read_row_by_row(wired: S3StorageBackend, wire: Wire) -> None:
    rows = [[str(number), "naïve \n text", "x" * 300] for number in range(20_000)]
    made = io.StringIO()
    csv.writer(made).writerows(rows)
    content = made.getvalue().encode()
    ref = wired.put_bytes(key="a.csv", content=content)
    wire.received = 0
    with io.TextIOWrapper(wired.open(ref), "utf-8", newline="") as text:
        reader = csv.reader(text)
        assert [next(reader) for _ in range(10)] == rows[:10]
        assert wire.received < MIB // 4 < len(content)
        assert list(reader) == rows[10:]


@pytest.mark.s3_servers("moto", "rgw", "rclone")
def test_reading_over_a_small_gap_takes_no_new_request(s3: S3StorageBackend, ranges: list[str]) -> None:
    content = content_of(8_000_000)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        assert stream.read(1_000_000) == content[:1_000_000]
        assert stream.read(300_000) == content[1_000_000:1_300_000]
        for start in range(1_350_000, 2_000_000, 150_000):
            stream.seek(start)
            assert stream.read(100_000) == content[start : start + 100_000]
    assert len(ranges) <= 3


def test_a_large_read_is_one_request_for_just_that(s3: S3StorageBackend, ranges: list[str]) -> None:
    content = content_of(8_000_000)
    with s3.open(s3.put_bytes(key="a", content=content)) as stream:
        stream.seek(1_000_000)
        assert stream.read(3_000_005) == content[1_000_000:4_000_005]
        stream.seek(7)
        assert stream.read(10) == content[7:17]
    assert ranges == ["bytes=1000000-4000004", "bytes=7-131078"]


# Connections


@pytest.fixture
def half_read(s3_bucket: Any, wired: S3StorageBackend, ref_of: Callable[..., Any]) -> Callable[[], Any]:
    """Gives streams over one object of 48 MB, of which 11 MB were read, so that the next 32 MB are asked for."""
    content = content_of(48 * MIB)
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="large", Body=content)
    ref = ref_of("large", content)

    def make() -> Any:
        stream = wired.open(ref)
        assert b"".join(stream.read(MIB // 4) for _ in range(11 * 4)) == content[: 11 * MIB]
        return stream

    return make


def test_leaving_off_does_not_fetch_what_was_asked_for_ahead(wire: Wire, half_read: Callable[[], Any]) -> None:
    half_read().close()
    assert wire.wait_until(lambda: wire.open == 0)
    assert 11 * MIB <= wire.received < 30 * MIB  # some of the next 32 are in the buffers of sockets


def test_a_reader_that_is_dropped_closes_its_connection(wire: Wire, half_read: Callable[[], Any]) -> None:
    stream = half_read()
    assert wire.open == 1
    del stream
    gc.collect()
    assert wire.wait_until(lambda: wire.open == 0)


@pytest.mark.s3_servers("rgw")  # moto ends each connection by itself
def test_a_reader_that_is_read_to_its_end_gives_its_connection_back(wired: S3StorageBackend, wire: Wire) -> None:
    content = content_of(4_000_000)
    ref = wired.put_bytes(key="a", content=content)
    for read in (lambda stream: stream.read(), lambda stream: stream.read(1_000_000), lambda stream: stream.read(1)):
        with wired.open(ref) as stream:
            assert content.startswith(read(stream))
    assert wire.open == 1
    assert wire.connections == 1


def test_readers_that_idle_keep_nobody_from_a_connection(
    wired: S3StorageBackend, wire: Wire, half_read: Callable[[], Any]
) -> None:
    idle = [half_read() for _ in range(3)]  # the pool is for one
    assert wire.open == 3
    assert wired.get(wired.put_bytes(key="b", content=b"content")) == b"content"
    for stream in idle:
        assert stream.read(MIB)
        stream.close()


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


def test_a_dropped_connection_is_taken_up_where_it_broke_off(s3_bucket: Any) -> None:
    client = s3_bucket.server.client(retries={"total_max_attempts": 2})
    backend = S3StorageBackend(bucket=s3_bucket.name, client=client)
    content = content_of(1_000_000)
    ref = backend.put_bytes(key="a", content=content)
    broken = _break_bodies(client, 4)
    with backend.open(ref) as stream:
        assert stream.read() == content
    assert len(broken) == 4
    client.close()


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


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-7, 1), (-11, 2), (0, os.SEEK_DATA), (0, os.SEEK_HOLE)])
def test_a_seek_that_cannot_be_leaves_the_stream_where_it_was(s3: S3StorageBackend, offset: int, whence: int) -> None:
    with s3.open(s3.put_bytes(key="a", content=b"0123456789")) as stream:
        stream.seek(5)
        with pytest.raises(ValueError, match=r"negative seek position|unsupported"):
            stream.seek(offset, whence)
        assert stream.read() == b"56789"
