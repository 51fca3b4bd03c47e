"""Inline text of 0.1.0, up and back, on every database."""

from __future__ import annotations

import json

from sqlalchemy.orm import Session


def inline(archive, number):
    return json.loads(archive.raw(number))


def add(archive):
    archive.add({"report": None}, {"report": None}, {"report": None}, {"report": None})
    archive.set(1, report='{"legacy_inline_text": "first: ü"}')
    archive.set(2, report='{"legacy_inline_text": "", "language": "en", "tags": [1, {"a": null}]}')
    with Session(archive.engine) as session:
        session.get_one(archive.Document, 3).report = b"a real file"
        session.commit()


def test_inline_text_becomes_files_and_comes_back_as_it_was(archive):
    add(archive)
    real = archive.raw(3)
    report = archive.ingest("report")
    assert (report.total, report.rows) == (2, 2)
    assert archive.files() == {1: "first: ü".encode(), 2: b"", 3: b"a real file", 4: None}
    converted = {archive.file(number).location for number in (1, 2)}
    report = archive.put_back("report", kind="inline")
    assert (report.total, report.rows) == (2, 2)
    assert inline(archive, 1) == {"legacy_inline_text": "first: ü"}
    assert inline(archive, 2) == {"legacy_inline_text": "", "language": "en", "tags": [1, {"a": None}]}
    assert archive.raw(3) == real
    assert archive.freed() == converted
    archive.ingest("report")
    assert archive.files() == {1: "first: ü".encode(), 2: b"", 3: b"a real file", 4: None}


def test_a_file_that_replaced_inline_text_is_a_real_one(archive):
    add(archive)
    archive.ingest("report")
    with Session(archive.engine) as session:
        session.get_one(archive.Document, 1).report = b"replaced"
        session.commit()
    archive.put_back("report")
    assert archive.file(1).read() == b"replaced"


def test_other_members_that_no_ref_can_hold_are_an_error_by_row_and_leave_no_object(archive):
    add(archive)
    archive.set(4, report=json.dumps({"legacy_inline_text": "fourth", "log": "x" * 70_000}))
    report = archive.ingest("report", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (2, [(4,)])
    assert inline(archive, 4)["legacy_inline_text"] == "fourth"
    assert archive.objects() == {archive.file(number).location for number in (1, 2, 3)}


def test_what_is_no_text_is_an_error_by_row(archive):
    add(archive)
    archive.set(4, report='{"legacy_inline_text": 5}')
    report = archive.ingest("report", on_error="skip")
    assert [failure.key for failure in report.failures] == [(4,)]
    assert inline(archive, 4) == {"legacy_inline_text": 5}
