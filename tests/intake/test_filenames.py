"""Filenames from browsers, paths and attackers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.intake.filenames import clean_filename
from granite_storage.refs import StoredObjectRef


@pytest.mark.parametrize(
    ("filename", "cleaned"),
    [
        ("report.pdf", "report.pdf"),
        ("naïve café.txt", "naïve café.txt"),
        (r"C:\Users\me\report.pdf", "report.pdf"),
        ("/home/me/report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("a/b\\c.txt", "c.txt"),
        ("a\0b\nc\x7f\x85.txt", "abc.txt"),
        ("a\udcff.txt", "a.txt"),
        ("gpj.\u202eexe", "gpj.exe"),
        ("a\u2028b", "ab"),
        ("  spaced.txt ", "spaced.txt"),
        (".hidden", ".hidden"),
        ("a" * 300 + ".pdf", "a" * 251 + ".pdf"),
        ("é" * 200 + ".pdf", "é" * 125 + ".pdf"),
        ("a." + "b" * 300, "a." + "b" * 253),
        ("." + "a" * 300, "." + "a" * 254),
        (None, None),
        ("", None),
        (".", None),
        ("..", None),
        ("docs/", None),
        ("\0", None),
        ("  ", None),
    ],
)
def test_a_filename_is_made_fit_for_a_ref(filename: str | None, cleaned: str | None) -> None:
    assert clean_filename(filename) == cleaned


@given(st.text(st.characters()) | st.text(st.characters(), min_size=1).map(lambda text: text * 300))
def test_whatever_comes_in_a_ref_can_hold_what_comes_out(filename: str) -> None:
    cleaned = clean_filename(filename)
    if cleaned is not None:
        assert StoredObjectRef("d", "local", "x", 0, "", original_filename=cleaned).original_filename == cleaned
        assert not {"/", "\\"} & set(cleaned)
        assert clean_filename(cleaned) == cleaned
