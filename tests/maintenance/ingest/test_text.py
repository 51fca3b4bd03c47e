"""Columns of text, up and back, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from granite_storage import ConfigurationError, ConversionError
from granite_storage.maintenance.ingest import put_back

TEXTS = {1: "plain", 2: None, 3: "", 4: "grüße 日本 🎉", 5: "line\n" * 3000}


def add(archive):
    archive.add(*({"note": one} for one in TEXTS.values()))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_becomes_files_and_comes_back(archive, encoding):
    add(archive)
    archive.ingest("note", kind="text", encoding=encoding)
    decoded = {number: None if one is None else one.decode(encoding) for number, one in archive.files().items()}
    assert decoded == TEXTS
    assert archive.file(1).content_type == "text/plain"
    archive.set(4, note=None)
    report = archive.put_back("note", kind="text", encoding=encoding)
    assert (report.rows, report.kept) == (4, 3)
    assert archive.old("note") == TEXTS
    assert set(archive.files().values()) == {None}


def test_the_filename_suggests_the_type(archive):
    archive.add({"note": "a,b", "name": "table.csv"})
    archive.ingest("note", kind="text", filename_column="name")
    assert archive.file().content_type == "text/csv"


def test_what_an_encoding_has_not_is_an_error_by_row(archive):
    add(archive)
    with pytest.raises(ConversionError, match=r"(?s)1 row cannot be converted.*document \(id=4\).*latin-1") as caught:
        archive.ingest("note", kind="text", encoding="latin-1")
    assert [failure.key for failure in caught.value.failures] == [(4,)]
    assert archive.files() == {1: b"plain", 2: None, 3: b"", 4: None, 5: TEXTS[5].encode()}


def test_a_file_that_is_no_text_stays_on_the_way_back(archive):
    archive.add({"body": b"\xff\xfe\xfd"}, {"body": b"text"})
    archive.ingest("body")
    report = archive.put_back("note", kind="text", on_error="skip")
    assert archive.old("note") == {1: None, 2: "text"}
    assert archive.files() == {1: b"\xff\xfe\xfd", 2: None}
    assert "no text in utf-8" in str(report.failures[0])


def test_text_is_not_taken_for_a_path_or_the_other_way_round(archive):
    with pytest.raises(ConfigurationError, match=r"kind='text'.*kind='paths'"):
        archive.ingest("note")


@pytest.mark.databases("postgresql", "mariadb")
def test_what_does_not_fit_into_the_old_column_is_an_error_by_row(archive):
    archive.add({"body": b"x" * 400}, {"body": b"short"})
    archive.ingest("body")
    report = archive.put_back("name", kind="text", on_error="skip")
    assert "the database refuses its content in 'name'" in str(report.failures[0])
    assert archive.old("name") == {1: None, 2: "short"}
    assert archive.files() == {1: b"x" * 400, 2: None}
    assert len(archive.freed()) == 1


def test_a_constraint_of_the_old_column_is_an_error_by_row(archive):
    archive.add({"body": b"same"}, {"body": b"same"}, {"body": b"other"})
    archive.ingest("body")
    with archive.engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX names ON document (name)"))
    report = archive.put_back("name", kind="text", on_error="skip")
    assert [failure.key for failure in report.failures] == [(2,)]
    assert archive.old("name") == {1: "same", 2: None, 3: "other"}
    assert archive.files() == {1: None, 2: b"same", 3: None}
    assert len(archive.freed()) == 2


@pytest.mark.databases("postgresql", "mariadb")
def test_the_way_back_needs_transactions(archive):
    engine = archive.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        put_back(connection, archive.manager, archive.conversion("body"))


@pytest.mark.databases("postgresql")
def test_a_nul_character_is_an_error_by_row(archive):
    archive.add({"body": b"a\0b"})
    archive.ingest("body")
    report = archive.put_back("note", kind="text", on_error="skip")
    assert "NUL character" in str(report.failures[0])
