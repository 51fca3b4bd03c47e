"""Normal forms and patterns of media types."""

from __future__ import annotations

import pytest

from granite_storage.intake.media_types import charset_of, is_unsigned, matches, normal_type


@pytest.mark.parametrize(
    ("content_type", "normal"),
    [
        ("image/png", "image/png"),
        (" Image/PNG ; q=1", "image/png"),
        ("image/jpg", "image/jpeg"),
        ("image/pjpeg", "image/jpeg"),
        ("image/x-ms-bmp", "image/bmp"),
        ("audio/x-wav", "audio/wav"),
        ("application/x-zip-compressed", "application/zip"),
        ("text/xml", "application/xml"),
        ("nonsense", None),
        ("a/b/c", None),
        ("image/*", None),
        ("image/p\nng", None),
        ("/", None),
        ("", None),
        (None, None),
    ],
)
def test_a_media_type_has_one_name(content_type: str | None, normal: str | None) -> None:
    assert normal_type(content_type) == normal


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/plain; charset=UTF-8", "utf-8"),
        ('text/plain;charset="iso-8859-1"; x=y', "iso-8859-1"),
        ("text/plain", None),
        ("text/plain; charset=a\r\nb", None),
        ("text/plain; charset=<script>", None),
        (None, None),
    ],
)
def test_a_charset_is_a_plain_token(content_type: str | None, charset: str | None) -> None:
    assert charset_of(content_type) == charset


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/html", "application/json", "image/svg+xml", "application/geo+json"]
)
def test_text_in_all_its_forms_has_no_signature(kind: str) -> None:
    assert is_unsigned(kind)


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/zip", "a/epub+zip", "font/woff2"])
def test_binary_types_have_a_signature(kind: str) -> None:
    assert not is_unsigned(kind)


@pytest.mark.parametrize(
    ("kind", "patterns", "fits"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("IMAGE/PNG",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("*/*",), True),
        ("image/png", ("text/*", "image/*"), True),
        ("image/jpeg", ("image/jpg",), True),
        ("text/csv; charset=utf-8", ("text/csv",), True),
        ("application/octet-stream", ("*/*",), True),
        ("image/png", (), False),
        ("image/png", ("image/gif",), False),
        ("image/png", ("imag/*",), False),
        ("imagery/png", ("image/*",), False),
        ("application/octet-stream", ("image/*",), False),
    ],
)
def test_a_pattern_is_a_type_or_a_wildcard(kind: str, patterns: tuple[str, ...], fits: bool) -> None:
    assert matches(kind, patterns) is fits
