"""A seekable stream over an object in S3: it asks for the ranges that are read, and for more as reading goes on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any

from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import BackendError

__all__ = ["open_object"]

_BUFFER = 128 * 1024
_FIRST = 256 * 1024
_LARGEST = 64 * 1024 * 1024
_ATTEMPTS = 3


def open_object(
    client: Callable[[], Any], target: Mapping[str, Any], location: str, *, size: int, etag: str
) -> io.BufferedReader:
    """Open an object of a known size (bytes) and ETag for reading.

    :param client: gives the boto3 client.
    :param target: ``Bucket``, ``Key`` and further arguments of GetObject.
    """
    return io.BufferedReader(_RangeReader(client, target, location, size, etag), _BUFFER)


class _RangeReader(io.RawIOBase):
    """Ranged GETs, each on condition of the ETag, so that bytes of two objects never mix.

    The first range is small; while reading goes straight on, each is four times the one before. Bodies are read as they
    are needed, so memory does not follow the range. A dropped connection is taken up where it broke off.
    """

    def __init__(
        self, client: Callable[[], Any], target: Mapping[str, Any], location: str, size: int, etag: str
    ) -> None:
        super().__init__()
        self._client = client
        self._target = target
        self._location = location
        self._size = size
        self._etag = etag
        self._position = 0
        self._body: Any = None
        self._body_at = 0  # where the body's next byte is in the object
        self._window = _FIRST
        self._pid = os.getpid()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.closed:
            raise ValueError("seek of a closed file")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._fetch(wanted)
        view[: len(data)] = data
        self._position += len(data)
        self._body_at = self._position
        return len(data)

    def readall(self) -> bytes:
        parts = []
        while self._position < self._size:
            parts.append(self._fetch(self._size - self._position))
            self._position += len(parts[-1])
            self._body_at = self._position
        return b"".join(parts)

    def close(self) -> None:
        self._drop()
        super().close()

    def _fetch(self, wanted: int) -> bytes:
        from botocore.exceptions import BotoCoreError

        for attempt in range(_ATTEMPTS):
            try:
                data: bytes = self._body_here(wanted).read(wanted)
            except (BotoCoreError, OSError) as error:
                self._drop()
                if attempt == _ATTEMPTS - 1:
                    raise self._broken(f"{type(error).__name__}: {error}") from error
                continue
            if data:
                return data
            self._drop()  # this range is at its end
        raise self._broken("the server sent nothing")

    def _body_here(self, wanted: int) -> Any:
        """A response body whose next byte is the one at the position."""
        if self._body is not None and self._body_at == self._position and self._pid == os.getpid():
            return self._body
        straight_on = self._body_at == self._position
        self._window = min(self._window * 4, _LARGEST) if straight_on and self._position else _FIRST
        self._drop()
        start, end = self._position, min(self._position + max(wanted, self._window), self._size)
        with s3_errors(self._target["Bucket"], self._location, "reading", changed=True):
            response = self._client().get_object(**self._target, Range=f"bytes={start}-{end - 1}", IfMatch=self._etag)
        self._body, self._body_at, self._pid = response["Body"], start, os.getpid()
        if response["ResponseMetadata"]["HTTPStatusCode"] == 200:
            self._skip(start)  # a server without ranges sends the whole
        return self._body

    def _skip(self, count: int) -> None:
        while count:
            skipped = len(self._body.read(min(count, _FIRST)))
            if not skipped:
                raise self._broken("the server sent less than the object's size")
            count -= skipped

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _broken(self, reason: str) -> BackendError:
        return BackendError(f"reading {self._location!r} in bucket {self._target['Bucket']!r} failed: {reason}")
