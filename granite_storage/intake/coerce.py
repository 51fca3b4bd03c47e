"""From whatever is assigned to a file field to an upload."""

from __future__ import annotations

from typing import Any

from granite_storage.exceptions import UploadConsumedError
from granite_storage.intake.filenames import clean_filename
from granite_storage.intake.stream import called
from granite_storage.intake.upload import Upload

__all__ = ["coerce"]


def coerce(value: Any) -> Upload | None:
    """Make an :class:`Upload` of what is assignable, or None of None and of an empty form field.

    Upload objects of FastAPI, Starlette, Litestar, Werkzeug, Flask and Django are known by their shape; none of these
    is imported.

    :raises UnassignableError: if the value has no bytes to store: a dict, a number, a stream in text mode, ...
    :raises UploadConsumedError: if a framework's upload was read to its end already.

    >>> coerce("hello").content_type
    'text/plain'
    >>> coerce(None) is None
    True
    """
    if value is None or isinstance(value, Upload):
        return value
    inner = _inner_stream(value)
    if inner is None:
        return Upload(value)
    filename = _text(value, "filename" if hasattr(value, "filename") else "name")
    upload = Upload(inner, filename, _text(value, "content_type"))
    upload.filename = clean_filename(filename)  # the name of the framework's temporary file is not the user's
    if upload.filename is None and upload.size == 0:
        return None  # a form was sent with no file chosen
    if upload.size == 0 and upload._start:
        raise UploadConsumedError(
            f"{called(upload.filename)} was read to its end already; seek to 0 before you assign it"
        )
    return upload


def _inner_stream(value: Any) -> Any:
    """The binary stream of a framework's upload object, or None if ``value`` is none."""
    if isinstance(value, (type, str, bytes, bytearray, memoryview, dict)):
        return None
    if hasattr(value, "filename"):  # Starlette, Litestar, aiohttp: .file; Werkzeug: .stream
        members: tuple[str, ...] = ("file", "stream")
    elif callable(getattr(value, "chunks", None)) and hasattr(value, "name"):  # Django
        members = ("file",)
    else:
        return None
    for name in members:
        inner = getattr(value, name, None)
        if callable(getattr(inner, "read", None)):
            return inner
    return None


def _text(value: Any, name: str) -> str | None:
    text = getattr(value, name, None)
    return text if isinstance(text, str) else None
