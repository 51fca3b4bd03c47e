"""The content type of an upload: what its first bytes show, else what is claimed about it.

A type that has a signature counts only if the bytes show it: a script named ``x.png`` is not an image. Claims (the
content type that came with the upload, else what the filename suggests) are believed only among types without a
signature (text, CSV, JSON, SVG, ...), and only if the bytes look like text; or to tell which member of a container's
family it is (a ``.docx`` is a zip file). All else is ``application/octet-stream``.
"""

from __future__ import annotations

import codecs
import re

from granite_storage.intake.containers import container_of
from granite_storage.intake.media_types import OCTET_STREAM, SVG, charset_of, is_unsigned, normal_type
from granite_storage.intake.signatures import signed_types
from granite_storage.intake.suffixes import guess_type

__all__ = ["HEAD_SIZE", "looks_like_text", "sniff"]

HEAD_SIZE = 8192
"""How many bytes are looked at."""

# A shorter signature may be chance, so it counts only for a claim that says the same; in what looks like text
# ("BMW is a car", "MZ") it does not count at all. A few formats have no more than three bytes.
_PROOF = 4
_SHORT = frozenset({"application/x-bzip2", "audio/mpeg", "image/jpeg"})

# Signed types that are written in plain text. Whatever else begins with printable characters may be prose.
_PRINTABLE = frozenset({"application/pdf", "application/postscript", "application/rtf", "image/gif"})

# More general signatures that are right although puremagic has a longer one; and the common type among equal ones.
_FIRST = ("image/jp2", "audio/mpeg")
_COMMON = frozenset(
    {"application/pdf", "application/x-tar", "application/zstd", "font/ttf", "image/tiff", "image/x-icon", "video/mpeg"}
)

# The WHATWG MIME Sniffing standard's "binary data bytes" (section 3): no text holds one, except in UTF-16 and UTF-32.
_BINARY = bytes((*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


# An XML document whose root is <svg>: after a byte order mark, the XML declaration, comments and the document type.
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>\s*)*<(?:svg:)?svg[\s/>]",
    re.DOTALL,
)


def sniff(head: bytes, claim: str | None = None, filename: str | None = None) -> str:
    """The content type of an upload.

    :param head: its first bytes, up to :data:`HEAD_SIZE`.
    :param claim: the content type that came with it.
    :param filename: its name, which says something where the claim does not.

    >>> sniff(b"\\x89PNG\\r\\n\\x1a\\n\\x00\\x00\\x00\\rIHDR", "text/html", "x.html")
    'image/png'
    >>> sniff(b"<script>alert(1)</script>", "image/png", "x.png")
    'application/octet-stream'
    >>> sniff(b"name;size\\n", "text/csv; charset=utf-8"), sniff(b"name;size\\n", None, "sizes.csv")
    ('text/csv; charset=utf-8', 'text/csv')
    """
    said = normal_type(claim)
    if said is None or said == OCTET_STREAM:
        said = guess_type(filename)
    is_text = looks_like_text(head)
    shown = _shown(head, said, is_text)
    if shown is not None:
        return shown
    if said == SVG and not _SVG.match(head):
        return OCTET_STREAM
    if said is not None and is_text and is_unsigned(said):
        charset = charset_of(claim)
        return f"{said}; charset={charset}" if charset and said.startswith("text/") else said
    return OCTET_STREAM


def looks_like_text(head: bytes) -> bool:
    """Whether bytes may be text: UTF-16 or UTF-32 with a byte order mark, or no byte that no text holds.

    >>> looks_like_text("naïve".encode()), looks_like_text("naïve".encode("latin-1")), looks_like_text(b"\\x00\\x01")
    (True, True, False)
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            try:
                head = codecs.getincrementaldecoder(encoding)().decode(head).encode()
            except UnicodeError:
                return False
            break
    return len(head.translate(None, _BINARY)) == len(head)


def _shown(head: bytes, said: str | None, is_text: bool) -> str | None:
    """The signed type that the bytes show; ``said`` decides where they leave a choice."""
    container = container_of(head)
    if container is not None:
        return said if said is not None and container.fits(said) else container.content_type
    found = signed_types(head)
    if said in found and (found[said] >= _PROOF or not is_text):
        return said
    if is_text:
        found = {kind: length for kind, length in found.items() if kind in _PRINTABLE}
    found = {kind: length for kind, length in found.items() if length >= _PROOF or (kind in _SHORT and length == 3)}
    for kind in _FIRST:
        if kind in found:
            return kind
    return max(found, key=lambda kind: (found[kind], kind in _COMMON, kind), default=None)
