"""What a browser is told about an object: whether it may show it, and under which name it saves it.

Whoever uploads chooses the bytes, and a page that a browser shows acts in the name of the site it came from. So only
types that no browser takes for a document, and whose signature the bytes have shown (:mod:`.intake.sniff`), are ever
*inline*; all else is an *attachment*, which browsers save and never run.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from granite_storage.intake.filenames import clean_filename
from granite_storage.intake.media_types import normal_type

__all__ = ["INLINE_TYPES", "check_content_type", "content_disposition", "is_inline"]

INLINE_TYPES = frozenset(
    {
        "audio/aac",
        "audio/flac",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
    }
)
"""The types that a browser cannot be harmed by: images and sounds that it decodes and does not run, and MP4.

The WHATWG MIME Sniffing standard (section 7) lets no browser take a response of one of these types for HTML. Not among
them, and so attachments: SVG, HTML and XML, which run scripts; PDF, whose viewers do; text, which old browsers
sniffed; playlists, which load what they name; and what browsers do not show anyway.
"""

_CONTENT_TYPE = re.compile(
    r"[a-z0-9][\w!#$&^.+-]{0,126}/[a-z0-9][\w!#$&^.+-]{0,126}"
    r"(?:; ?[\w!#$&^.+-]+=(?:[\w!#$&^.+:-]+|\"[\w !#$&^.+:/-]*\"))*",
    re.ASCII | re.IGNORECASE,
)
_MAX_CONTENT_TYPE = 255

# RFC 6266, appendix D: browsers differ about backslash and percent sign in a quoted string; a quotation mark ends it.
_UNQUOTABLE = re.compile(r"[^ -~]|[\"%\\]")
_ATTR_CHAR = "!#$&+-.^_`|~"  # RFC 8187, section 3.2.1; quote() itself leaves letters, digits and "_.-~"


def is_inline(content_type: str | None) -> bool:
    """Whether a browser may show an object of this type.

    >>> is_inline("image/png"), is_inline("image/svg+xml"), is_inline("text/html"), is_inline(None)
    (True, False, False, False)
    """
    return normal_type(content_type) in INLINE_TYPES


def content_disposition(content_type: str | None, filename: str | None, *, download: bool = False) -> str:
    """The ``Content-Disposition`` (RFC 6266) of an object, at most 1 100 ASCII characters.

    :param content_type: of the bytes, as the policy accepted it: it decides between inline and attachment.
    :param filename: what a browser is to call the file. Paths, control characters and marks that reorder text are
        removed, 255 bytes of UTF-8 are kept, and what is not ASCII goes as RFC 8187 says, after an ASCII likeness.
    :param download: an attachment in any case.

    >>> content_disposition("image/png", "sea.png")
    'inline; filename="sea.png"'
    >>> content_disposition("text/html", "na\\u00efve \\"x\\".html")
    'attachment; filename="na_ve _x_.html"; filename*=UTF-8\\'\\'na%C3%AFve%20%22x%22.html'
    """
    kind = "inline" if is_inline(content_type) and not download else "attachment"
    name = clean_filename(filename)
    if name is None:
        return kind
    plain = _UNQUOTABLE.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def check_content_type(content_type: str) -> str:
    """Return a media type, with its parameters, if it can stand in a header.

    :raises ValueError: if it cannot: it is no media type, or has more than 255 characters.

    >>> check_content_type("text/csv; charset=utf-8")
    'text/csv; charset=utf-8'
    >>> check_content_type("text/csv\\r\\nX: y")
    Traceback (most recent call last):
    ...
    ValueError: 'text/csv\\r\\nX: y' is no media type such as 'text/csv; charset=utf-8' of at most 255 characters
    """
    if len(content_type) > _MAX_CONTENT_TYPE or not _CONTENT_TYPE.fullmatch(content_type):
        shown = repr(content_type[:80])
        raise ValueError(
            f"{shown} is no media type such as 'text/csv; charset=utf-8' of at most {_MAX_CONTENT_TYPE} characters"
        )
    return content_type
