from __future__ import annotations

import io
import tempfile
from typing import Any

import pytest

from granite_storage import StoredFile, Upload, UploadConsumedError
from granite_storage.intake.spool import spooled
from granite_storage.orm.home import FieldHome
from tests.orm.worlds import OneShot


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The temporary files that were made."""
    made: list[Any] = []

    class Noted(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Noted)
    return made


def test_what_is_left_of_a_stream_can_be_read_from_its_beginning() -> None:
    stream = io.BytesIO(b"abc")
    stream.read(1)
    with spooled(stream) as spool:
        assert spool.read() == b"bc"
        spool.seek(1)
        assert spool.read() == b"c"


def test_nothing_is_left_open_when_reading_fails(opened: list[Any]) -> None:
    class Broken(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            raise OSError("the line is cut")

    with pytest.raises(OSError, match="the line is cut"):
        spooled(Broken())
    assert [one.closed for one in opened] == [True]


def test_a_staged_file_that_was_read_up_leaves_nothing_open(opened: list[Any]) -> None:
    upload = Upload(OneShot(b"abc"))
    with upload.open() as stream:
        stream.read()
    file = StoredFile(FieldHome("documents"), upload)
    with pytest.raises(UploadConsumedError):
        file.open()
    assert all(one.closed for one in opened)
