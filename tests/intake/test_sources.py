"""What is known of a path or a stream before it is read, and what is refused at once."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from granite_storage.exceptions import UnassignableError
from granite_storage.intake import Upload
from tests.intake.sources import OneShot


def content_of(upload: Upload) -> bytes:
    with upload.open() as stream:
        return stream.read()


def test_a_file_names_itself_but_standard_input_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open("rb") as source:
        assert Upload(source).filename == "a.txt"
    with tempfile.TemporaryFile() as source:  # its name is a number
        assert Upload(source).filename is None
    unnamed = io.BytesIO()
    unnamed.name = "<stdin>"  # type: ignore[attr-defined]
    assert Upload(unnamed).filename is None


@pytest.mark.parametrize("wrap", [gzip.open, bz2.open, lzma.open])
def test_a_compressed_stream_is_not_decompressed_to_learn_its_size(wrap: Any) -> None:
    packed = io.BytesIO()
    with wrap(packed, "wb") as writer:
        writer.write(b"abc" * 1000)
    packed.seek(0)
    with wrap(packed) as source:
        upload = Upload(source)
        assert upload.size is None
        assert source.tell() == 0
        assert content_of(upload) == content_of(upload) == b"abc" * 1000


def test_a_member_of_a_zip_file_can_be_stored() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"abc" * 1000)
    with zipfile.ZipFile(packed) as archive, archive.open("a.txt") as member:
        upload = Upload(member)
        assert (upload.size, upload.filename) == (None, "a.txt")
        assert content_of(upload) == b"abc" * 1000


class AsyncStream:
    async def read(self, size: int = -1) -> bytes:
        return b""


def detached() -> Any:
    stream = io.BufferedReader(io.BytesIO(b"abc"))  # type: ignore[type-var]
    stream.detach()
    return stream


def closed() -> Any:
    stream = io.BytesIO(b"abc")
    stream.close()
    return stream


class WriteOnly(OneShot):
    def readable(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: {"backend": "s3"}, "type dict cannot be stored; give bytes"),
        (lambda: 5, "type int"),
        (lambda: 1.5, "type float"),
        (lambda: None, "type NoneType"),
        (lambda: [b"abc"], "type list"),
        (lambda: io.BytesIO, "type type"),
        (lambda: object(), "type object"),
        (lambda: io.StringIO("abc"), r"text mode; open it in binary mode, as in open\(\.\.\., 'rb'\)"),
        (closed, "closed stream"),
        (detached, "closed stream"),
        (AsyncStream, r"asynchronous stream; read it first \(await"),
        (WriteOnly, "open it for reading"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_bytes_to_store_is_refused_at_once(make: Any, why: str) -> None:
    value = WriteOnly(b"") if make is WriteOnly else make()
    with pytest.raises(UnassignableError, match=why):
        Upload(value)


def test_a_file_in_text_mode_or_for_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc")
    with path.open() as text, pytest.raises(UnassignableError, match="'rb'"):
        Upload(text)
    with path.open("ab") as writer, pytest.raises(UnassignableError, match="'rb'"):
        Upload(writer)


def test_a_temporary_file_in_text_mode_is_refused() -> None:
    with tempfile.SpooledTemporaryFile(mode="w+") as spooled, pytest.raises(UnassignableError, match="text mode"):
        Upload(spooled)
    with tempfile.NamedTemporaryFile(mode="w+") as named, pytest.raises(UnassignableError, match="text mode"):
        Upload(named)


def test_paths_that_are_no_readable_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in (
        (tmp_path / "missing.txt", r"'missing\.txt' cannot be stored \(No such file or directory\)"),
        (tmp_path, "is a directory; give the path of a file"),
        (tmp_path / "fifo", "'fifo' is no regular file; open it and give the stream"),
        (Path("a\0b"), "cannot be stored .*null"),
    ):
        with pytest.raises(UnassignableError, match=why):
            Upload(path)


def test_a_path_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may read everything
    with pytest.raises(UnassignableError, match="Permission denied"):
        Upload(path)
