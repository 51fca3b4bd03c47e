"""Uploads: what can be staged, and how its bytes are read."""

from __future__ import annotations

import gc
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from granite_storage.exceptions import InvalidUploadError, UnassignableError, UploadConsumedError
from granite_storage.intake import Upload
from granite_storage.testing.strategies import contents
from tests.intake.sources import OneShot, OnlyRead


def content_of(upload: Upload) -> bytes:
    with upload.open() as stream:
        return stream.read()


@given(contents(5000))
def test_bytes_are_read_as_they_are_as_often_as_wanted(content: bytes) -> None:
    upload = Upload(content)
    assert content_of(upload) == content_of(upload) == content
    assert (upload.size, upload.rereadable, upload.filename) == (len(content), True, None)


def test_a_buffer_is_copied_since_it_may_change_before_it_is_stored() -> None:
    buffer = bytearray(b"abc")
    uploads = Upload(buffer), Upload(memoryview(buffer))
    buffer[:] = b"xyz"
    assert [content_of(upload) for upload in uploads] == [b"abc", b"abc"]


def test_text_is_utf_8_and_claims_to_be_plain_text() -> None:
    upload = Upload("naïve")
    assert content_of(upload) == "naïve".encode()
    assert (upload.size, upload.content_type) == (6, "text/plain")
    assert Upload("{}", "a.json").content_type == "application/json"
    assert Upload("a", content_type="text/html").content_type == "text/html"
    with pytest.raises(UnassignableError, match="lone surrogates"):
        Upload("\ud800")


def test_a_path_gives_its_content_size_and_name(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(b"abc")
    upload = Upload(path)
    assert (upload.filename, upload.size, upload.rereadable) == ("report.pdf", 3, True)
    assert content_of(upload) == content_of(upload) == b"abc"
    assert Upload(path, "else.pdf").filename == "else.pdf"


def test_a_path_of_bytes_is_a_path_not_a_content(tmp_path: Path) -> None:
    class Entry:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "a.txt")

    (tmp_path / "a.txt").write_bytes(b"abc")
    assert content_of(Upload(Entry())) == b"abc"


def test_a_file_that_grew_after_its_assignment_is_stored_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    upload = Upload(path)
    path.write_bytes(b"abcdef")
    assert content_of(upload) == b"abcdef"
    assert upload.size == 6


def test_a_file_that_is_gone_when_it_is_stored_is_an_error_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    upload = Upload(path)
    path.unlink()
    with pytest.raises(InvalidUploadError, match=r"'a\.txt' cannot be read any more \(No such file") as caught:
        content_of(upload)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_stream_is_read_from_where_it_stands() -> None:
    source = io.BytesIO(b"header body")
    source.seek(7)
    upload = Upload(source)
    source.seek(2)
    assert upload.size == 4
    assert content_of(upload) == content_of(upload) == b"body"


def test_a_stream_beyond_its_end_is_empty() -> None:
    source = io.BytesIO(b"abc")
    source.seek(10)
    upload = Upload(source)
    assert upload.size == 0
    assert content_of(upload) == b""


def test_staging_a_stream_does_not_move_it() -> None:
    source = io.BytesIO(b"header body")
    source.seek(7)
    Upload(source)
    assert source.tell() == 7


def test_a_stream_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with path.open("rb") as source:
        with Upload(source).open() as stream:
            stream.read()
            stream.close()
        assert not source.closed


@pytest.mark.parametrize("make", [lambda: OneShot(b"abcdefghij"), lambda: OnlyRead(b"abcdef", b"ghij")])
def test_a_one_shot_stream_is_read_once_and_then_says_what_to_do(make: Any) -> None:
    upload = Upload(make(), "a.bin")
    assert (upload.size, upload.rereadable) == (None, False)
    assert content_of(upload) == b"abcdefghij"
    with pytest.raises(UploadConsumedError, match=r"'a\.bin' was read already.*cannot seek back; call buffer\(\)"):
        content_of(upload)


def test_a_buffered_one_shot_stream_can_be_read_again() -> None:
    upload = Upload(OneShot(b"abcdefghij", most=3))
    upload.buffer()
    assert (upload.size, upload.rereadable) == (10, True)
    assert content_of(upload) == content_of(upload) == b"abcdefghij"


def test_buffering_keeps_large_content_out_of_memory() -> None:
    content = bytes(range(256)) * 40_000
    upload = Upload(OneShot(content, most=2**20))
    upload.buffer()
    assert upload.source._rolled  # a SpooledTemporaryFile that went to disk
    assert content_of(upload) == content


def test_the_copy_of_a_buffered_stream_goes_with_its_upload() -> None:
    upload = Upload(OneShot(b"abc"))
    upload.buffer()
    copy = upload.source
    assert not copy.closed
    del upload
    gc.collect()
    assert copy.closed


def test_buffering_what_is_rereadable_does_nothing() -> None:
    upload = Upload(b"abc")
    upload.buffer()
    assert upload.source == b"abc"


def test_buffering_what_was_consumed_is_refused() -> None:
    upload = Upload(OneShot(b"abc"))
    content_of(upload)
    with pytest.raises(UploadConsumedError):
        upload.buffer()


def test_a_stream_that_was_closed_before_it_was_stored_says_what_to_do() -> None:
    source = io.BytesIO(b"abc")
    upload = Upload(source, "a.txt")
    source.close()
    with pytest.raises(InvalidUploadError, match=r"'a\.txt' was closed before it was stored; flush or commit"):
        content_of(upload)


def test_an_open_upload_of_a_seekable_source_can_seek(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"header body")
    source = io.BytesIO(b"more: header body")
    source.seek(6)
    for upload in (Upload(b"header body"), Upload(path), Upload(source)):
        with upload.open() as stream:
            assert stream.seek(7) == 7
            assert stream.read() == b"body"


@pytest.mark.parametrize("argument", ["filename", "content_type", "extra"])
def test_what_is_claimed_has_its_type(argument: str) -> None:
    with pytest.raises(UnassignableError, match=f"{argument} is a (str|dict), not int"):
        Upload(b"abc", **{argument: 5})  # type: ignore[arg-type]


def test_the_extra_is_a_copy() -> None:
    extra = {"a": 1}
    upload = Upload(b"abc", extra=extra)
    extra["a"] = 2
    assert upload.extra == {"a": 1}


def test_uploads_of_one_stream_have_one_identity() -> None:
    source, other = io.BytesIO(b"abc"), io.BytesIO(b"abc")
    assert Upload(source).identity == Upload(source).identity
    uploads = Upload(source), Upload(other)
    assert uploads[0].identity != uploads[1].identity


def test_the_repr_holds_neither_filename_nor_content(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_bytes(b"secret")
    for upload in (Upload(path), Upload(b"secret", "secret.txt"), Upload(OneShot(b"secret"), "secret.txt")):
        assert "secret" not in repr(upload)
    assert repr(Upload(b"secret")) == "<Upload of bytes, 6 bytes>"
