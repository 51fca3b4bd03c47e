"""Media types as plain names: their normal forms, which of them have no signature, and patterns of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["OCTET_STREAM", "SVG", "charset_of", "is_unsigned", "matches", "normal_type"]

OCTET_STREAM = "application/octet-stream"
"""The type of bytes that nothing is known about."""

SVG = "image/svg+xml"
"""An image to people, and a document with scripts to browsers."""

_ALIASES = {
    "application/csv": "text/csv",
    "application/ecmascript": "text/javascript",
    "application/font-woff": "font/woff",
    "application/font-woff2": "font/woff2",
    "application/javascript": "text/javascript",
    "application/msexcel": "application/vnd.ms-excel",
    "application/mspowerpoint": "application/vnd.ms-powerpoint",
    "application/x-7z": "application/x-7z-compressed",
    "application/x-bzip": "application/x-bzip2",
    "application/x-dosexec": "application/vnd.microsoft.portable-executable",
    "application/x-font-otf": "font/otf",
    "application/x-font-ttf": "font/ttf",
    "application/x-gzip": "application/gzip",
    "application/x-javascript": "text/javascript",
    "application/x-msdownload": "application/vnd.microsoft.portable-executable",
    "application/x-pdf": "application/pdf",
    "application/x-rar": "application/vnd.rar",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/x-xml": "application/xml",
    "application/x-yaml": "application/yaml",
    "application/x-zip": "application/zip",
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-aac": "audio/aac",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/x-midi": "audio/midi",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-opus+ogg": "audio/ogg",
    "audio/x-wav": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "font/sfnt": "font/ttf",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/tif": "image/tiff",
    "image/svg": "image/svg+xml",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "image/x-png": "image/png",
    "text/json": "application/json",
    "text/rtf": "application/rtf",
    "text/x-csv": "text/csv",
    "text/x-markdown": "text/markdown",
    "text/x-yaml": "application/yaml",
    "text/xml": "application/xml",
    "text/yaml": "application/yaml",
    "video/avi": "video/x-msvideo",
    "video/msvideo": "video/x-msvideo",
    "video/m4v": "video/mp4",
    "video/x-m4v": "video/mp4",
    "video/vnd.avi": "video/x-msvideo",
}

# RFC 6838, section 4.2: type and subtype are restricted names.
_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_TYPE = re.compile(f"{_NAME}/{_NAME}")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([a-z0-9][a-z0-9._:+-]{0,39})\"?\s*(?:;|$)", re.IGNORECASE)


# Types without a signature; "+xml" and "+json" of RFC 6839 among them. Of images only SVG is one: browsers take any
# "+xml" for a document with scripts.
_UNSIGNED = re.compile(
    r"text/.+|message/.+|(application|model)/[^/]+\+(xml|json|yaml)|image/svg\+xml|model/(obj|mtl)"
    r"|application/(json|xml|xml-dtd|yaml|toml|sql|graphql|typescript|n-triples|n-quads|trig|pem-certificate-chain|pgp-keys"
    r"|pgp-signature|x-bibtex|x-csh|x-httpd-php|x-latex|x-ndjson|x-pem-file|x-perl|x-php|x-python|x-ruby|x-sh|x-sql"
    r"|x-subrip|x-tex|x-texinfo|x-troff[a-z-]*)"
)


def normal_type(content_type: str | None) -> str | None:
    """A media type in lower case, without parameters, under its common name; None if it is no media type.

    >>> normal_type("image/JPG; q=1"), normal_type("x")
    ('image/jpeg', None)
    """
    essence = (content_type or "").partition(";")[0].strip().lower()
    if not _TYPE.fullmatch(essence):
        return None
    return _ALIASES.get(essence, essence)


def is_unsigned(content_type: str) -> bool:
    """Whether a normal type is one of those that no signature tells: text in all its forms.

    >>> is_unsigned("text/csv"), is_unsigned("image/svg+xml"), is_unsigned("image/png")
    (True, True, False)
    """
    return _UNSIGNED.fullmatch(content_type) is not None


def charset_of(content_type: str | None) -> str | None:
    """The ``charset`` parameter of a media type, in lower case.

    >>> charset_of('text/csv; charset="ISO-8859-1"')
    'iso-8859-1'
    """
    match = _CHARSET.search(content_type or "")
    return match[1].lower() if match else None


def matches(content_type: str, patterns: Iterable[str]) -> bool:
    """Whether a type fits one of ``patterns``: ``"image/png"``, ``"image/*"`` or ``"*/*"``.

    SVG, a document that runs scripts, is no ``image/*``: it has to be named.

    >>> matches("image/png", ("application/pdf", "image/*")), matches("image/png", ("text/*",))
    (True, False)
    >>> matches("image/svg+xml", ("image/*",)), matches("image/svg+xml", ("image/*", "image/svg+xml"))
    (False, True)
    """
    kind = normal_type(content_type) or OCTET_STREAM
    return any(
        pattern == "*/*"
        or (pattern.endswith("/*") and kind.startswith(pattern[:-1]) and kind != SVG)
        or kind == normal_type(pattern)
        for pattern in (text.strip().lower() for text in patterns)
    )
