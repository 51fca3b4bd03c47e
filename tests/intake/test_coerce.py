"""Whatever may be assigned to a file field becomes an upload."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile, TemporaryUploadedFile
from litestar.datastructures import UploadFile as LitestarUpload
from starlette.datastructures import Headers
from starlette.datastructures import UploadFile as StarletteUpload
from werkzeug.datastructures import FileStorage

from granite_storage.exceptions import UnassignableError, UploadConsumedError
from granite_storage.intake import Upload, coerce

CONTENT = b"%PDF-1.7 report"

if not django_settings.configured:
    django_settings.configure()


def starlette(filename: str | None, content: bytes, content_type: str) -> StarletteUpload:
    headers = Headers({"content-type": content_type})
    return StarletteUpload(io.BytesIO(content), size=len(content), filename=filename, headers=headers)


def litestar(filename: str, content: bytes, content_type: str) -> LitestarUpload:
    upload = LitestarUpload(content_type, filename)
    upload.file.close()  # nobody would close it here
    upload.file = io.BytesIO(content)  # type: ignore[assignment]
    return upload


def werkzeug(filename: str | None, content: bytes, content_type: str) -> FileStorage:
    return FileStorage(io.BytesIO(content), filename, name="field", content_type=content_type)


def django_in_memory(filename: str, content: bytes, content_type: str) -> InMemoryUploadedFile:
    return InMemoryUploadedFile(io.BytesIO(content), "field", filename, content_type, len(content), None)


def django_on_disk(filename: str, content: bytes, content_type: str) -> TemporaryUploadedFile:
    upload = TemporaryUploadedFile(filename, content_type, len(content), None)
    upload.write(content)
    upload.seek(0)
    return upload


def aiohttp_like(filename: str, content: bytes, content_type: str) -> Any:
    return SimpleNamespace(name="field", filename=filename, file=io.BytesIO(content), content_type=content_type)


FRAMEWORKS = [starlette, litestar, werkzeug, django_in_memory, django_on_disk, aiohttp_like]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_upload_object_of_a_framework_gives_its_content_name_and_type(framework: Any) -> None:
    upload = coerce(framework("report.pdf", CONTENT, "application/pdf"))
    assert upload is not None
    assert (upload.filename, upload.content_type, upload.size) == ("report.pdf", "application/pdf", len(CONTENT))
    with upload.open() as stream:
        assert stream.read() == CONTENT


@pytest.mark.parametrize("framework", [starlette, litestar, werkzeug, aiohttp_like])
def test_an_empty_form_field_is_no_file(framework: Any) -> None:
    assert coerce(framework("", b"", "application/octet-stream")) is None


@pytest.mark.parametrize("framework", [starlette, werkzeug, aiohttp_like])
def test_no_filename_and_no_content_is_no_file(framework: Any) -> None:
    assert coerce(framework(None, b"", "application/octet-stream")) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_empty_file_with_a_name_is_a_file(framework: Any) -> None:
    upload = coerce(framework("empty.txt", b"", "text/plain"))
    assert upload is not None
    assert (upload.filename, upload.size) == ("empty.txt", 0)


@pytest.mark.parametrize("framework", [starlette, litestar, werkzeug, aiohttp_like])
def test_content_without_a_name_is_a_file(framework: Any) -> None:
    upload = coerce(framework("", CONTENT, "application/pdf"))
    assert upload is not None
    assert (upload.filename, upload.size) == (None, len(CONTENT))


def test_the_name_of_a_frameworks_temporary_file_is_not_the_users(tmp_path: Path) -> None:
    path = tmp_path / "upload-x7f"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        upload = coerce(SimpleNamespace(filename="", file=file, content_type=None))
    assert upload is not None
    assert upload.filename is None


def test_djangos_other_files_are_taken_too() -> None:
    for file in (SimpleUploadedFile("a.txt", b"abc"), ContentFile(b"abc", name="a.txt")):
        upload = coerce(file)
        assert upload is not None
        assert (upload.filename, upload.size) == ("a.txt", 3)


def test_a_frameworks_upload_is_read_from_where_it_stands() -> None:
    file = starlette("a.txt", b"header body", "text/plain")
    file.file.seek(7)
    upload = coerce(file)
    assert upload is not None
    with upload.open() as stream:
        assert stream.read() == b"body"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_frameworks_upload_that_was_read_to_its_end_is_not_stored_as_an_empty_file(framework: Any) -> None:
    file = framework("report.pdf", CONTENT, "application/pdf")
    (getattr(file, "file", None) or file.stream).read()
    with pytest.raises(UploadConsumedError, match=r"'report\.pdf' was read to its end already; seek to 0"):
        coerce(file)


def test_a_frameworks_upload_that_was_closed_is_refused() -> None:
    file = starlette("a.txt", b"abc", "text/plain")
    file.file.close()
    with pytest.raises(UnassignableError, match="closed"):
        coerce(file)


def test_none_and_uploads_pass_as_they_are() -> None:
    upload = Upload(b"abc")
    assert coerce(None) is None
    assert coerce(upload) is upload


def test_plain_values_become_uploads(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    for value in (b"abc", bytearray(b"abc"), memoryview(b"abc"), "abc", path, io.BytesIO(b"abc")):
        upload = coerce(value)
        assert upload is not None
        with upload.open() as stream:
            assert stream.read() == b"abc"


def test_empty_plain_values_are_empty_files() -> None:
    for value in (b"", "", io.BytesIO()):
        upload = coerce(value)
        assert upload is not None
        assert upload.size == 0


def test_text_claims_to_be_plain_text_and_bytes_claim_nothing() -> None:
    assert coerce("abc").content_type == "text/plain"  # type: ignore[union-attr]
    assert coerce(b"abc").content_type is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        {"storage_key": "d", "backend": "s3", "location": "x", "size": 1, "checksum": ""},
        {"file": io.BytesIO(b"abc"), "filename": "a"},
        5,
        True,
        object(),
        [b"abc"],
        SimpleNamespace(filename="a.txt"),
        SimpleNamespace(filename="a.txt", file="text"),
        SimpleNamespace(filename="a.txt", file=io.StringIO("abc"), content_type="text/plain"),
    ],
    ids=[
        "ref",
        "dict",
        "int",
        "bool",
        "object",
        "list",
        "filename only",
        "file is text",
        "file in text mode",
    ],
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(UnassignableError):
        coerce(value)


def test_what_a_framework_claims_counts_only_if_it_is_text() -> None:
    upload = coerce(SimpleNamespace(filename=b"a.txt", file=io.BytesIO(b"abc"), content_type=None))
    assert upload is not None
    assert (upload.filename, upload.content_type) == (None, None)
