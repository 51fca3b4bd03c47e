"""Media types and suffixes, the same on every machine."""

from __future__ import annotations

import mimetypes

import pytest

from granite_storage.intake.suffixes import guess_type, suffix_for
from granite_storage.locations import new_location


@pytest.mark.parametrize(
    ("content_type", "suffix"),
    [
        ("application/octet-stream", ""),
        ("application/pdf", ".pdf"),
        ("application/x-gzip", ".gz"),
        ("application/x-unheard-of", ""),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
        ("audio/mpeg", ".mp3"),
        ("image/jpg", ".jpg"),
        ("image/jpeg", ".jpg"),
        ("image/svg+xml", ".svg"),
        ("image/tiff", ".tiff"),
        ("text/html; charset=utf-8", ".html"),
        ("text/markdown", ".md"),
        ("text/plain", ".txt"),
        ("video/mp4", ".mp4"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_a_type_has_one_suffix(content_type: str, suffix: str) -> None:
    assert suffix_for(content_type) == suffix


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("report.pdf", "application/pdf"),
        ("REPORT.PDF", "application/pdf"),
        ("photo.jpeg", "image/jpeg"),
        ("backup.tar.gz", "application/gzip"),
        ("drawing.svgz", "application/gzip"),
        ("old.Z", None),
        ("table.csv", "text/csv"),
        ("data.jsonl", "application/x-ndjson"),
        ("page.htm", "text/html"),
        ("config.yml", "application/yaml"),
        ("script.js", "text/javascript"),
        (".pdf", None),
        ("README", None),
        ("x.unheard-of", None),
        ("x.", None),
        ("", None),
        (None, None),
    ],
)
def test_a_filename_suggests_a_type(filename: str | None, content_type: str | None) -> None:
    assert guess_type(filename) == content_type


def test_what_the_machine_says_about_types_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "_db", None)
    mimetypes.init(files=[])
    mimetypes.add_type("application/x-mine", ".mine")
    mimetypes.add_type("application/x-mine", ".pdf")
    assert guess_type("a.mine") is None
    assert guess_type("a.pdf") == "application/pdf"
    assert suffix_for("application/x-mine") == ""


def test_every_suffix_that_is_given_makes_a_location() -> None:
    types = {guess_type(f"x{suffix}") for suffix in mimetypes.MimeTypes(filenames=()).types_map[True]}
    for content_type in types - {None}:
        assert new_location("docs", suffix_for(content_type or "")).startswith("docs/")
