"""The upload: a source of bytes that is not stored yet."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from granite_storage.exceptions import InvalidUploadError, UnassignableError, UploadConsumedError
from granite_storage.intake.filenames import clean_filename
from granite_storage.intake.sources import (
    check_stream,
    is_closed,
    name_of_stream,
    position_of,
    size_of_path,
    size_of_stream,
)
from granite_storage.intake.stream import CheckedStream, called
from granite_storage.intake.suffixes import guess_type

__all__ = ["SPOOL_SIZE", "Upload"]

SPOOL_SIZE = 8 * 1024 * 1024
"""How much of a one-shot source is kept in memory when it is buffered, in bytes; more goes to a temporary file."""

_read_up: weakref.WeakSet[Any] = weakref.WeakSet()


class Upload:
    """A staged source: bytes, text, a path or a binary stream, with what is claimed about it.

    :param source: ``bytes`` (or another buffer, which is copied), ``str`` (stored as UTF-8), an ``os.PathLike`` of a
        regular file, or a binary stream, which is read from where it stands now and is never closed.
    :param filename: the name to record; a path, or a stream that has a name, gives its own by default.
    :param content_type: the media type that is claimed; by default the filename suggests one. The bytes have the last
        word.
    :param extra: further JSON members for the ref.
    :raises UnassignableError: if the source is a stream in text mode, closed or asynchronous, a directory, a missing
        path, or something else that has no bytes.

    >>> upload = Upload(b"%PDF-1.7", filename="/tmp/report.pdf")
    >>> upload
    <Upload of bytes, 8 bytes>
    >>> upload.filename, upload.size
    ('report.pdf', 8)
    >>> with upload.open() as stream:
    ...     stream.read(4)
    b'%PDF'
    """

    __slots__ = (
        "__weakref__",
        "_consumed",
        "_start",
        "content_type",
        "extra",
        "filename",
        "rereadable",
        "size",
        "source",
    )

    source: Any
    """What is read: ``bytes``, a ``Path`` or a stream."""
    filename: str | None
    """The cleaned filename, or None."""
    content_type: str | None
    """The media type that is claimed, or None."""
    extra: dict[str, Any] | None
    """Further JSON members for the ref."""
    size: int | None
    """Bytes, if it can be known without reading; brought up to date by :meth:`open`."""
    rereadable: bool
    """Whether :meth:`open` works more than once."""

    def __init__(
        self,
        source: Any,
        filename: str | None = None,
        content_type: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("filename", filename), ("content_type", content_type)):
            if value is not None and not isinstance(value, str):
                raise UnassignableError(f"an upload's {name} is a str, not {type(value).__name__}")
        if extra is not None and not isinstance(extra, Mapping):
            raise UnassignableError(f"an upload's extra is a dict, not {type(extra).__name__}")
        self.extra = None if extra is None else dict(extra)
        self._start: int | None = 0
        self._consumed = False
        if isinstance(source, str):
            content_type = content_type or guess_type(filename) or "text/plain"
            source = _encoded(source)
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.source = bytes(source)  # bytes are not copied; others are, since they may change until they are stored
            self.size = len(self.source)
        elif isinstance(source, os.PathLike):
            self.source = Path(os.fsdecode(source))
            self.size = size_of_path(self.source)
            filename = filename or self.source.name
        else:
            check_stream(source)
            self.source = source
            self._start = position_of(source)
            self.size = None if self._start is None else size_of_stream(source, self._start)
            with suppress(TypeError):
                self._consumed = self._start is None and source in _read_up
            filename = filename or name_of_stream(source)
        self.content_type = content_type or None
        self.filename = clean_filename(filename)
        self.rereadable = self._start is not None

    def __repr__(self) -> str:  # holds no filename: reprs end up in logs
        size = "" if self.size is None else f", {self.size} bytes"
        return f"<Upload of {'path' if isinstance(self.source, Path) else type(self.source).__name__}{size}>"

    @property
    def identity(self) -> int:
        """The same number for uploads of the same stream, which must not be read at the same time."""
        return id(self) if isinstance(self.source, (bytes, Path)) else id(self.source)

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The content, from where the source stood when this upload was made; a stream of the caller's stays open.

        :raises UploadConsumedError: if the source cannot be read a second time.
        :raises InvalidUploadError: if the file is gone, or the stream was closed, in the meantime.
        """
        return self._opened()

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if isinstance(self.source, bytes):
            with io.BytesIO(self.source) as stream:
                yield stream
        elif isinstance(self.source, Path):
            with self._open_path(self.source) as file:
                yield file
        else:
            yield cast(BinaryIO, self._open_stream())

    def rewind(self) -> None:
        """Put a stream that was read back to where it stood when this upload was made, so that it can be given again.

        Of one that cannot seek it is remembered that it was read: a new upload of it says so where it is opened.
        """
        if self._consumed and not is_closed(self.source):
            if self._start is not None:
                self.source.seek(self._start)
            else:
                with suppress(TypeError):  # it takes no weak reference
                    _read_up.add(self.source)

    def buffer(self) -> None:
        """Make a one-shot source re-readable: read it now, into memory, and beyond 8 MiB into a temporary file.

        :raises UploadConsumedError: if it was read already.
        """
        if not self.rereadable:
            with self.open() as stream:
                self.continue_with(stream)

    def continue_with(self, stream: Any) -> None:
        """Copy what ``stream`` gives, as :meth:`buffer` does, and have it as the source from now on."""
        spool = tempfile.SpooledTemporaryFile(SPOOL_SIZE)  # noqa: SIM115 - it lives as long as the upload
        try:
            while chunk := stream.read(65536):
                spool.write(chunk)
        except BaseException:
            spool.close()
            raise
        self.source, self._start, self.size = spool, 0, spool.tell()
        self.rereadable = True
        weakref.finalize(self, spool.close)

    def _open_path(self, path: Path) -> BinaryIO:
        try:
            file = path.open("rb")
        except OSError as error:
            raise InvalidUploadError(
                f"{called(self.filename)} cannot be read any more ({error.strerror}); keep the file until it is stored"
            ) from error
        self.size = os.fstat(file.fileno()).st_size
        return file

    def _open_stream(self) -> CheckedStream:
        if is_closed(self.source):
            raise InvalidUploadError(
                f"the stream of {called(self.filename)} was closed before it was stored; "
                "flush or commit while it is open, or assign its path or its bytes"
            )
        if self._start is not None:
            self.size = size_of_stream(self.source, self._start)
            self.source.seek(self._start)
        elif self._consumed:
            raise UploadConsumedError(
                f"{called(self.filename)} was read already, and its stream cannot seek back; "
                "call buffer() on the Upload before the first read, or assign a new one"
            )
        self._consumed = True
        return CheckedStream(self.source, self.filename, start=self._start)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnassignableError("a str with lone surrogates is no text; encode it and give the bytes") from error
