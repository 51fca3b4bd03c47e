"""Checked and limited read streams."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.exceptions import ContentTooLargeError, InvalidUploadError
from granite_storage.intake.stream import CheckedStream, SizeLimitedStream
from granite_storage.testing.strategies import contents
from tests.intake.sources import Endless, OneShot, OnlyRead


def read_in_steps(stream: Any, size: int) -> bytes:
    return b"".join(iter(lambda: stream.read(size), b""))


def readinto_in_steps(stream: Any, size: int) -> bytes:
    parts, buffer = [], bytearray(size)
    while count := stream.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


@given(contents(5000), st.integers(min_value=1, max_value=3000), st.sampled_from((read_in_steps, readinto_in_steps)))
def test_a_stream_gives_every_byte_in_order(content: bytes, size: int, read: Callable[[Any, int], bytes]) -> None:
    assert read(CheckedStream(io.BytesIO(content)), size) == content
    assert read(CheckedStream(OneShot(content)), size) == content
    assert read(SizeLimitedStream(OneShot(content), len(content)), size) == content


def test_a_read_gives_as_much_as_was_asked_for_unless_the_source_ends() -> None:
    stream = CheckedStream(OneShot(b"0123456789", most=3))
    assert stream.read(8) == b"01234567"
    assert stream.read(8) == b"89"
    assert stream.read(8) == b""


def test_readinto_fills_the_buffer_unless_the_source_ends() -> None:
    stream = CheckedStream(OneShot(b"0123456789", most=3))
    buffer = bytearray(8)
    assert (stream.readinto(buffer), bytes(buffer)) == (8, b"01234567")
    assert stream.readinto(buffer) == 2


def test_read1_gives_what_one_read_of_the_source_gives() -> None:
    stream = CheckedStream(OneShot(b"0123456789", most=3))
    assert stream.read1(8) == b"012"
    assert stream.readinto1(bytearray(8)) == 3
    assert stream.read1() == b"678"


def test_a_source_with_nothing_but_read_is_enough() -> None:
    assert CheckedStream(OnlyRead(b"abc", b"de")).read() == b"abcde"
    buffer = bytearray(4)
    assert CheckedStream(OnlyRead(b"abc", b"d")).readinto(buffer) == 4
    assert buffer == b"abcd"


@pytest.mark.parametrize("answer", [bytearray(b"abc"), memoryview(b"abc")])
def test_any_buffer_that_a_source_gives_counts_as_bytes(answer: Any) -> None:
    assert CheckedStream(OnlyRead(answer)).read(3) == b"abc"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "non-blocking"),
        ("text", "open it in binary mode"),
        (5, "type int"),
        (b"four", "gave 4 bytes when asked for 3"),
    ],
)
@pytest.mark.parametrize("read", [lambda stream: stream.read(3), lambda stream: stream.readinto(bytearray(3))])
def test_what_no_binary_stream_gives_is_refused(answer: Any, why: str, read: Callable[[Any], object]) -> None:
    with pytest.raises(InvalidUploadError, match=f"'a.txt' cannot be read: .*{why}"):
        read(CheckedStream(OnlyRead(answer), "a.txt"))


@pytest.mark.parametrize(("count", "why"), [(None, "non-blocking"), (4, "gave 4 bytes"), (-1, "gave -1 bytes")])
def test_what_readinto_of_no_binary_stream_gives_is_refused(count: Any, why: str) -> None:
    class Odd(OnlyRead):
        def readinto(self, buffer: Any) -> Any:
            return count

    with pytest.raises(InvalidUploadError, match=why):
        CheckedStream(Odd()).readinto(bytearray(3))


def test_an_error_of_the_source_comes_through_as_it_is() -> None:
    error = ConnectionResetError("gone")
    with pytest.raises(ConnectionResetError) as caught:
        CheckedStream(OnlyRead(b"abc", error)).read()
    assert caught.value is error


def test_position_0_is_where_the_source_stood() -> None:
    source = io.BytesIO(b"header body")
    stream = CheckedStream(source, start=7)
    assert stream.seekable()
    assert (stream.seek(0), stream.read(), stream.tell()) == (0, b"body", 4)
    assert (stream.seek(-2, io.SEEK_END), stream.read()) == (2, b"dy")
    assert stream.seek(0, io.SEEK_END) == 4
    assert (stream.seek(1), stream.seek(1, io.SEEK_CUR)) == (1, 2)


def test_no_seek_leads_in_front_of_the_start() -> None:
    stream = CheckedStream(io.BytesIO(b"secret body"), start=7)
    assert (stream.seek(-9, io.SEEK_END), stream.read()) == (0, b"body")
    with pytest.raises(ValueError, match="negative"):
        stream.seek(-1)


def test_a_source_that_cannot_seek_makes_a_stream_that_cannot() -> None:
    stream = CheckedStream(OneShot(b"abc"))
    assert not stream.seekable()
    with pytest.raises(io.UnsupportedOperation):
        stream.seek(0)
    with pytest.raises(io.UnsupportedOperation):
        stream.tell()


def test_closing_the_stream_leaves_the_source_open() -> None:
    source = io.BytesIO(b"abc")
    with CheckedStream(source, start=0) as stream:
        pass
    assert not source.closed
    for read in (stream.read, stream.read1, stream.tell):
        with pytest.raises(ValueError, match="closed"):
            read()


@given(contents(3000), st.integers(min_value=0, max_value=3000), st.integers(min_value=1, max_value=700))
def test_a_limit_lets_pass_what_is_within_it_and_nothing_else(content: bytes, limit: int, size: int) -> None:
    for read in (
        read_in_steps,
        readinto_in_steps,
        lambda stream, _: b"".join(stream),
        lambda stream, _: stream.read(),
    ):
        stream = SizeLimitedStream(OneShot(content, most=100), limit, size)
        if len(content) <= limit:
            assert read(stream, size) == content
        else:
            with pytest.raises(ContentTooLargeError):
                read(stream, size)


@pytest.mark.parametrize("limit", [0, 1, 1000, 100_000])
@pytest.mark.parametrize("read", [read_in_steps, readinto_in_steps, lambda stream, size: stream.read()])
def test_at_most_one_byte_beyond_the_limit_is_read(limit: int, read: Callable[[Any, int], bytes]) -> None:
    source = Endless()
    with pytest.raises(ContentTooLargeError):
        read(SizeLimitedStream(source, limit), 4096)
    assert source.given == limit + 1


def test_a_stream_that_passed_its_limit_stays_refused() -> None:
    source = Endless()
    stream = SizeLimitedStream(source, 10)
    for _ in range(2):
        with pytest.raises(ContentTooLargeError, match="larger than 10 bytes"):
            stream.read(100)
    assert source.given == 11


def test_without_a_limit_everything_passes() -> None:
    assert SizeLimitedStream(io.BytesIO(b"abc"), None).read() == b"abc"


def test_iteration_gives_chunks_of_the_chosen_size() -> None:
    assert list(SizeLimitedStream(OneShot(b"abcdefgh"), None, 3)) == [b"abc", b"def", b"gh"]
    assert list(SizeLimitedStream(io.BytesIO(b"a\nb\n"), None)) == [b"a\nb\n"]
    with pytest.raises(ValueError, match="chunk_size"):
        SizeLimitedStream(io.BytesIO(), 1, 0)


def test_the_arguments_of_0_1_0_keep_their_names() -> None:
    assert SizeLimitedStream(stream=io.BytesIO(b"abc"), max_size=3, chunk_size=2).read() == b"abc"


def test_sizes_in_errors_are_easy_to_read() -> None:
    with pytest.raises(ContentTooLargeError, match=r"'big\.bin' is larger than 10 485 760 bytes"):
        SizeLimitedStream(Endless(), 10 * 2**20, filename="big.bin").read()
