"""What can be known of a path or a stream before it is read: whether it can be read at all, its size, its name."""

from __future__ import annotations

import inspect
import io
import os
import stat
from pathlib import Path
from typing import Any

from granite_storage.exceptions import UnassignableError
from granite_storage.intake.filenames import clean_filename
from granite_storage.intake.stream import called

__all__ = ["check_stream", "is_closed", "name_of_stream", "position_of", "size_of_path", "size_of_stream"]

# Seeking to the end of these means decompressing all of it.
_DECOMPRESSORS = frozenset({"bz2", "gzip", "lzma", "zipfile", "zstd"})


def check_stream(source: Any) -> None:
    """Refuse what is no binary stream that can be read now.

    :raises UnassignableError: saying what it is instead, and the remedy.
    """
    kind = type(source).__name__
    read = None if isinstance(source, type) else getattr(source, "read", None)
    if not callable(read):
        raise UnassignableError(
            f"a value of type {kind} cannot be stored; "
            "give bytes, str, a path, a binary stream, an Upload or a framework's upload object"
        )
    if inspect.iscoroutinefunction(read):
        raise UnassignableError(
            f"{kind} is an asynchronous stream; read it first (await stream.read()) and give the bytes"
        )
    if isinstance(source, io.TextIOBase) or isinstance(getattr(source, "encoding", None), str):
        raise UnassignableError(f"{kind} is a stream in text mode; open it in binary mode, as in open(..., 'rb')")
    if is_closed(source):
        raise UnassignableError(f"{kind} is a closed stream; assign it while open, and close it once it is stored")
    readable = getattr(source, "readable", None)
    if callable(readable) and not readable():
        raise UnassignableError(f"{kind} is a stream for writing only; open it for reading, as in open(..., 'rb')")


def is_closed(source: Any) -> bool:
    """Whether a stream says that it is closed, or its buffer was detached."""
    try:
        return getattr(source, "closed", False) is True
    except ValueError:  # detached
        return True


def position_of(source: Any) -> int | None:
    """Where a stream stands, or None if it cannot seek."""
    try:
        return int(source.tell()) if source.seekable() else None
    except (AttributeError, OSError, TypeError, ValueError):
        return None


def size_of_stream(source: Any, start: int) -> int | None:
    """How many bytes follow the position ``start`` of a seekable stream, if it costs no reading to know."""
    if any(base.__module__.rpartition(".")[2] in _DECOMPRESSORS for base in type(source).__mro__):
        return None
    stood = source.tell()
    try:
        source.seek(0, os.SEEK_END)
        return max(int(source.tell()) - start, 0)
    except (OSError, ValueError):
        return None
    finally:
        source.seek(stood)


def size_of_path(path: Path) -> int:
    """The size of a regular file in bytes.

    :raises UnassignableError: if there is none, it is something else, or it may not be read.
    """
    name = called(clean_filename(str(path)))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UnassignableError(f"{name} cannot be stored ({reason}); give the path of a file that exists") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnassignableError(f"{name} is a directory; give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise UnassignableError(f"{name} is no regular file; open it and give the stream")
    if not os.access(path, os.R_OK):
        raise UnassignableError(f"{name} cannot be read (Permission denied); make it readable for this process")
    return status.st_size


def name_of_stream(source: Any) -> str | None:
    """The filename that a stream carries; names such as ``"<stdin>"`` are none."""
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and not (name.startswith("<") and name.endswith(">")) else None
