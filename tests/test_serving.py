from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.intake.filenames import clean_filename
from granite_storage.serving import INLINE_TYPES, check_content_type, content_disposition, is_inline

# RFC 6266, section 4.1, with the grammar of RFC 8187, section 3.2.1, read strictly.
HEADER = re.compile(
    r"(inline|attachment)(?:; filename=\"([ !#-\[\]-~]*)\""
    r"(?:; filename\*=UTF-8''((?:%[0-9A-F]{2}|[A-Za-z0-9!#$&+.^_`|~-])+))?)?"
)

HARMFUL = (
    "text/html",
    "text/html; charset=utf-8",
    "TEXT/HTML",
    "application/xhtml+xml",
    "image/svg+xml",
    "image/svg",
    "text/xml",
    "application/xml",
    "application/pdf",
    "application/x-pdf",
    "text/plain",
    "text/javascript",
    "text/css",
    "application/octet-stream",
    "application/x-shockwave-flash",
    "multipart/x-mixed-replace",
    "message/rfc822",
    "audio/x-mpegurl",
    "audio/mpegurl",
    "image/png+xml",
    "image/*",
    "image/png,text/html",
    "text/html image/png",
    "x",
    "",
    None,
)


@pytest.mark.parametrize("content_type", HARMFUL)
def test_what_could_harm_a_browser_is_an_attachment(content_type: str | None) -> None:
    assert not is_inline(content_type)
    assert content_disposition(content_type, "a.png").startswith("attachment;")
    assert content_disposition(content_type, None) == "attachment"


@pytest.mark.parametrize("content_type", sorted({*INLINE_TYPES, "image/JPG", "image/png; q=1", "audio/mp3"}))
def test_images_sounds_and_mp4_are_inline_unless_they_are_downloads(content_type: str) -> None:
    assert content_disposition(content_type, "a").startswith("inline;")
    assert content_disposition(content_type, "a", download=True).startswith("attachment;")


def test_only_these_types_are_inline() -> None:
    assert {kind for kind in INLINE_TYPES if not kind.startswith("audio/")} == {
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
    }


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("report.pdf", 'filename="report.pdf"'),
        ("a b; c, d.pdf", 'filename="a b; c, d.pdf"'),
        ("na\u00efve.pdf", "filename=\"na_ve.pdf\"; filename*=UTF-8''na%C3%AFve.pdf"),
        ('a"b.pdf', "filename=\"a_b.pdf\"; filename*=UTF-8''a%22b.pdf"),
        ("100%.pdf", "filename=\"100_.pdf\"; filename*=UTF-8''100%25.pdf"),
        ("it's(1)*.pdf", 'filename="it\'s(1)*.pdf"'),
        ("\u20ac it's(1)*.pdf", "filename=\"_ it's(1)*.pdf\"; filename*=UTF-8''%E2%82%AC%20it%27s%281%29%2A.pdf"),
        ("a\r\nSet-Cookie: b=c.pdf", 'filename="aSet-Cookie: b=c.pdf"'),
        ("a\0\x7f\x85\u2028b.pdf", 'filename="ab.pdf"'),
        ("../../etc/passwd", 'filename="passwd"'),
        ("C:\\Users\\me\\x.pdf", 'filename="x.pdf"'),
        ("exe.\u202efdp", 'filename="exe.fdp"'),
        ("a\ud800b.pdf", 'filename="ab.pdf"'),
    ],
)
def test_a_filename_goes_as_rfc_6266_and_8187_say(filename: str, header: str) -> None:
    assert content_disposition("application/pdf", filename) == f"attachment; {header}"


@pytest.mark.parametrize("filename", [None, "", "..", "/", "\r\n", "\u202e"])
def test_of_a_filename_that_is_none_nothing_is_said(filename: str | None) -> None:
    assert content_disposition("application/pdf", filename) == "attachment"


@given(st.text(st.characters(), max_size=400), st.sampled_from(["image/png", "text/html"]), st.booleans())
def test_no_filename_breaks_the_header(filename: str, content_type: str, download: bool) -> None:
    header = content_disposition(content_type, filename, download=download)
    match = HEADER.fullmatch(header)
    assert match is not None, header
    assert len(header) <= 1100
    assert match[1] == ("inline" if content_type == "image/png" and not download else "attachment")
    assert (unquote(match[3], errors="strict") if match[3] else match[2]) == clean_filename(filename)


@pytest.mark.parametrize("filename", ["\u65e5" * 5000 + ".pdf", '"' * 5000 + ".pdf", "x" * 5000 + ".pdf"])
def test_a_filename_that_is_too_long_is_cut_before_its_suffix(filename: str) -> None:
    header = content_disposition("application/pdf", filename)
    assert len(header) <= 1100
    assert '.pdf"' in header


@pytest.mark.parametrize("content_type", ["image/png", 'text/csv; charset="utf-8"', "text/csv;charset=utf-8; header=a"])
def test_a_media_type_with_its_parameters_is_taken(content_type: str) -> None:
    assert check_content_type(content_type) == content_type


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "png",
        "image/",
        "image/png\r\nX: y",
        "image/png, text/html",
        "text/csv; charset",
        "t/\u00e4",
        "a/" + "b" * 254,
    ],
)
def test_what_is_no_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="no media type"):
        check_content_type(content_type)
