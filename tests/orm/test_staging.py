"""Assignment stages: nothing is read, written or asked of a database."""

from __future__ import annotations

import io

import pytest

from granite_storage import NotStoredError, StoredFile, UnassignableError, Upload


class Untouchable(io.BytesIO):
    """A stream that must not be read."""

    def read(self, *args: int) -> bytes:
        raise AssertionError("assignment read the stream")

    readinto = readline = read1 = read


def test_assignment_reads_and_stores_nothing(Document, manager):
    document = Document(report=Untouchable(b"content"))
    assert document.report.staged
    assert list(manager.backends["memory"].iter_locations()) == []


def test_what_is_assigned_is_read_as_a_file_at_once(Document):
    document = Document(
        report=Upload(b"%PDF-1.7", filename="../../a.pdf", content_type="application/pdf", extra={"k": 1})
    )
    file = document.report
    assert isinstance(file, StoredFile)
    assert file.staged
    assert (file.size, file.filename, file.content_type, dict(file.extra)) == (8, "a.pdf", "application/pdf", {"k": 1})
    assert file.read() == b"%PDF-1.7"
    assert not file.exists()
    with pytest.raises(NotStoredError, match=r"'a\.pdf' is staged and has no ref yet: flush the session"):
        _ = file.ref


def test_a_staged_file_becomes_stored_in_place(session, Document):
    document = Document(report=b"content")
    file = document.report
    session.add(document)
    session.flush()
    assert document.report is file
    assert not file.staged
    assert file.exists()


def test_a_one_shot_stream_can_be_read_before_the_flush_that_stores_it(session, Document):
    class Pipe:
        def __init__(self) -> None:
            self.rest = io.BytesIO(b"from a pipe")

        def read(self, size: int = -1) -> bytes:
            return self.rest.read(size)

    document = Document(report=Pipe())
    assert document.report.size == 11
    assert document.report.read() == b"from a pipe"
    assert document.report.text() == "from a pipe"
    session.add(document)
    session.commit()
    assert document.report.read() == b"from a pipe"


def test_a_stream_is_stored_from_where_it_stood_when_it_was_assigned(session, Document):
    stream = io.BytesIO(b"headerbody")
    stream.seek(6)
    document = Document(report=stream)
    stream.seek(0)
    session.add(document)
    session.commit()
    assert (document.report.read(), document.report.size) == (b"body", 4)


def test_assigning_a_staged_file_elsewhere_stores_each_its_own(session, Document, manager):
    one = Document(report=b"shared source")
    two = Document(report=one.report)
    assert two.report is not one.report
    session.add_all([one, two])
    session.commit()
    assert one.report.location != two.report.location
    assert one.report.read() == two.report.read() == b"shared source"


def test_assigning_the_file_a_field_holds_is_no_change(session, Document, manager):
    document = Document(report=b"content")
    session.add(document)
    session.commit()
    held = document.report
    for same in (held, held.ref, manager.file(held.ref), manager.file(held.ref.to_dict())):
        document.report = same
        assert document.report is held
    assert not session.is_modified(document)


def test_none_and_an_empty_form_field_clear(session, Document):
    class FormField:
        filename = ""
        content_type = "application/octet-stream"
        file = io.BytesIO()

    document = Document(report=b"content", cover=b"cover")
    session.add(document)
    session.commit()
    document.report = None
    document.cover = FormField()
    assert (document.report, document.cover) == (None, None)
    session.commit()
    assert (document.report, document.cover) == (None, None)


def test_a_dict_is_refused_with_the_field_and_the_remedy(Document):
    forged = {"storage_key": "documents", "backend": "memory", "location": "docs/other", "size": 1, "checksum": ""}
    with pytest.raises(UnassignableError, match=r"file field document\.report takes no dict.*manager\.file\(ref\)"):
        Document(report=forged)


def test_a_stored_file_of_no_field_is_adopted(session, Document, manager):
    stored = manager.store("documents", b"stored first")
    document = Document(report=stored)
    session.add(document)
    session.commit()
    assert document.report.location == stored.location
    assert list(manager.backends["memory"].iter_locations()) == [stored.location]


def test_a_claim_tells_what_the_claimed_file_tells(session, Document, manager):
    stored = manager.store("documents", Upload(b"%PDF-1.7", filename="a.pdf", extra={"k": 1}))
    file = Document(report=stored).report
    assert (file.size, file.filename, file.content_type, dict(file.extra)) == (8, "a.pdf", "application/pdf", {"k": 1})
    assert file.read() == b"%PDF-1.7"
    with file.open() as stream:
        stream.seek(1)
        assert stream.read(3) == b"PDF"
