"""Between media types and suffixes: which suffix a location gets, and what the suffix of a filename suggests.

Nothing here depends on the machine: the table of :mod:`mimetypes` is used without the system's files, and common types
are fixed, so that a type has the same suffix on every version of Python.
"""

from __future__ import annotations

import mimetypes
import re
from functools import cache

from granite_storage.intake.media_types import OCTET_STREAM, normal_type

__all__ = ["guess_type", "suffix_for"]

_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
_SUFFIXES = {
    "application/epub+zip": ".epub",
    "application/gzip": ".gz",
    "application/java-archive": ".jar",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/ogg": ".ogx",
    "application/pdf": ".pdf",
    "application/postscript": ".ps",
    "application/rtf": ".rtf",
    "application/toml": ".toml",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.microsoft.portable-executable": ".exe",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-outlook": ".msg",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.rar": ".rar",
    "application/vnd.sqlite3": ".sqlite3",
    "application/wasm": ".wasm",
    "application/x-7z-compressed": ".7z",
    "application/x-bzip2": ".bz2",
    "application/x-ndjson": ".ndjson",
    "application/x-tar": ".tar",
    "application/x-xz": ".xz",
    "application/xml": ".xml",
    "application/yaml": ".yaml",
    "application/zip": ".zip",
    "application/zstd": ".zst",
    "audio/aac": ".aac",
    "audio/aiff": ".aiff",
    "audio/flac": ".flac",
    "audio/midi": ".mid",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".weba",
    "font/otf": ".otf",
    "font/ttf": ".ttf",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/jxl": ".jxl",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/vnd.adobe.photoshop": ".psd",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "message/rfc822": ".eml",
    "text/calendar": ".ics",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/javascript": ".js",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/tab-separated-values": ".tsv",
    "text/vcard": ".vcf",
    "video/3gpp": ".3gp",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
    _OOXML + "presentationml.presentation": ".pptx",
    _OOXML + "spreadsheetml.sheet": ".xlsx",
    _OOXML + "wordprocessingml.document": ".docx",
    _ODF + "presentation": ".odp",
    _ODF + "spreadsheet": ".ods",
    _ODF + "text": ".odt",
}
_FIXED_TYPES = {suffix: kind for kind, suffix in _SUFFIXES.items()} | {
    ".dll": "application/vnd.microsoft.portable-executable",
    ".htm": "text/html",
    ".jpeg": "image/jpeg",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".m4v": "video/mp4",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".tgz": "application/gzip",
    ".tif": "image/tiff",
    ".yml": "application/yaml",
}
_ENCODINGS = {"bzip2": "application/x-bzip2", "gzip": "application/gzip", "xz": "application/x-xz"}


def guess_type(filename: str | None) -> str | None:
    """What a filename's suffix suggests; a compressed file is what compressed it.

    >>> guess_type("report.PDF"), guess_type("backup.tar.gz"), guess_type("README")
    ('application/pdf', 'application/gzip', None)
    """
    suffix = re.search(r"[^.\s/\\](\.[^.\s/\\]{1,32})$", filename or "")
    if suffix is None:
        return None
    fixed = _FIXED_TYPES.get(suffix[1].lower())
    if fixed is not None:
        return fixed
    kind, encoding = _table().guess_type("file" + suffix[1].lower())
    return normal_type(kind) if encoding is None else _ENCODINGS.get(encoding)


def suffix_for(content_type: str) -> str:
    """The suffix that a location of this type gets, with its dot; empty if none is known.

    >>> suffix_for("image/jpeg"), suffix_for("text/plain; charset=utf-8"), suffix_for("application/octet-stream")
    ('.jpg', '.txt', '')
    """
    kind = normal_type(content_type)
    if kind is None or kind == OCTET_STREAM:
        return ""
    known = _SUFFIXES.get(kind)
    if known is not None:
        return known
    guesses = sorted(_table().guess_all_extensions(kind))
    return guesses[0] if guesses else ""


@cache
def _table() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes(filenames=())
