"""Filenames as they come with uploads, made fit for a ref."""

from __future__ import annotations

import re

from granite_storage.refs import MAX_FILENAME_BYTES

__all__ = ["clean_filename"]

# Control characters, line separators, the marks that reorder bidirectional text (they disguise a suffix), surrogates.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SUFFIX = re.compile(r"(?<=[^.])\.[^.\s]{1,31}$")


def clean_filename(filename: str | None) -> str | None:
    """The last component of a filename as a browser sent it, fit for a ref; None if nothing is left.

    Control characters, lone surrogates and the marks that reorder bidirectional text are removed; a name of more than
    255 bytes of UTF-8 is shortened in front of its suffix.

    >>> clean_filename(r"C:\\Users\\me\\report.pdf"), clean_filename("../../etc/passwd"), clean_filename("..")
    ('report.pdf', 'passwd', None)
    """
    if not filename:
        return None
    name = _UNFIT.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    if name in ("", ".", ".."):
        return None
    if len(name.encode()) <= MAX_FILENAME_BYTES:
        return name
    match = _SUFFIX.search(name)
    suffix = match[0] if match else ""
    room = MAX_FILENAME_BYTES - len(suffix.encode())
    return name.removesuffix(suffix).encode()[:room].decode(errors="ignore").rstrip() + suffix
