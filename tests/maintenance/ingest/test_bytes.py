"""Columns of bytes, up and back, on every database."""

from __future__ import annotations

import pytest

CONTENTS = {1: b"\x00\xff binary", 2: None, 3: b"", 4: b"%PDF-1.7 four", 5: bytes(range(256)) * 40}


def add(archive, contents=CONTENTS):
    archive.add(*({"body": one} for one in contents.values()))


def test_bytes_become_files_and_the_old_column_stays(archive):
    add(archive)
    report = archive.ingest("body")
    assert archive.files() == archive.old("body") == CONTENTS
    assert (report.total, report.rows, report.failed) == (4, 4, 0)
    assert report.size == sum(len(one) for one in CONTENTS.values() if one)
    assert archive.objects() == archive.named()


def test_names_and_types_come_from_columns(archive):
    archive.add({"body": b"a,b", "name": "../x/y.csv", "mime": "text/csv"}, {"body": b"%PDF-1.7", "mime": "text/csv"})
    archive.ingest("body", filename_column="name", content_type_column="mime")
    assert (archive.file(1).filename, archive.file(1).content_type) == ("y.csv", "text/csv")
    assert (archive.file(2).filename, archive.file(2).content_type) == (None, "application/pdf")


def test_a_type_may_be_claimed_for_all(archive):
    archive.add({"body": b"a,b", "mime": "text/plain"}, {"body": b"a,b"})
    archive.ingest("body", content_type_column="mime", content_type="text/csv")
    assert [archive.file(number).content_type for number in (1, 2)] == ["text/plain", "text/csv"]


def test_what_is_done_is_not_done_again(archive):
    add(archive)
    archive.ingest("body")
    before = archive.named()
    assert archive.ingest("body").total == 0
    assert archive.named() == before == archive.objects()


def test_the_way_back_frees_the_objects_and_leaves_equal_values_alone(archive):
    add(archive)
    archive.ingest("body")
    named = archive.named()
    report = archive.put_back("body")
    assert (report.rows, report.kept) == (4, 4)
    assert archive.old("body") == CONTENTS
    assert set(archive.files().values()) == {None}
    assert archive.freed() == named == archive.objects()


@pytest.mark.parametrize("checksum", ["sha256", "blake2b"])
def test_the_way_back_writes_what_is_not_there_any_more(engine, tmp_path, checksum):
    from tests.maintenance.ingest.archives import Archive

    archive = Archive(engine, tmp_path / "store", policy={"checksum": checksum})
    add(archive)
    archive.ingest("body")
    archive.set(1, body=None)
    archive.set(4, body=b"something else")
    report = archive.put_back("body")
    assert (report.rows, report.kept) == (4, 2)
    assert archive.old("body") == CONTENTS


def test_up_back_and_up_again(archive):
    add(archive)
    archive.ingest("body")
    archive.put_back("body")
    assert archive.ingest("body").rows == 4
    assert archive.files() == CONTENTS
    assert archive.objects() == archive.named() | archive.freed()
    assert archive.named().isdisjoint(archive.freed())
