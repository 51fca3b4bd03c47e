"""Ranges of one version of an object in S3: what every way of reading it is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from granite_storage.backends.s3_errors import s3_errors, storage_error
from granite_storage.backends.s3_retries import attempts_of, note_tried
from granite_storage.exceptions import BackendError, BackendUnavailableError, StorageError
from granite_storage.intake.stopping import check_stop

__all__ = ["ObjectVersion", "RangeStream", "first_range"]

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """An object as it was when reading began. Every range is asked for on condition of its ETag.

    :param client: gives the boto3 client.
    :param target: ``Bucket``, ``Key`` and further arguments of GetObject.
    :param location: how errors call the object.
    :param size: bytes.
    """

    client: Callable[[], Any]
    target: Mapping[str, Any]
    location: str
    size: int
    etag: str

    def body(self, start: int, end: int) -> Any:
        """A response body whose next byte is the one at ``start``; it may go on beyond ``end``.

        :raises ObjectNotFoundError: if the object was deleted since.
        :raises BackendError: if it is another one by now, or the server or the network fails.
        """
        with s3_errors(self.target["Bucket"], self.location, "reading", changed=True):
            response = self.client().get_object(**self.target, Range=f"bytes={start}-{end - 1}", IfMatch=self.etag)
        body = response["Body"]
        try:
            if response["ETag"] != self.etag:  # a server that ignores the condition
                raise BackendError(f"{self._name} was changed while it was read")
            self._skip(body, start - _start_of(response))
        except BaseException:
            body.close()
            raise
        return body

    def _skip(self, body: Any, count: int) -> None:
        if count < 0:
            raise self.broken("the server sent a range that was not asked for")
        while count:
            skipped = len(body.read(min(count, _PIECE)))
            if not skipped:
                raise self.broken("the server sent less than the object's size")
            count -= skipped
            check_stop()

    def broken(self, reason: str, cause: Exception | None = None) -> StorageError:
        """The error of a read that failed for ``reason``, or because of an error of boto3's or of the network."""
        ours = storage_error(cause, self.target["Bucket"], self.location, "reading") if cause is not None else None
        return ours or BackendUnavailableError(f"reading {self._name} failed: {reason}")

    @property
    def _name(self) -> str:
        return f"{self.location!r} in bucket {self.target['Bucket']!r}"


class RangeStream:
    """The bytes from ``start`` to ``end`` of an object, as they arrive: nothing is kept here.

    A connection that breaks off is taken up where it did, for each read that gets nothing as often as the client's
    settings say that a request is sent.

    :param body: a response body whose next byte is the one at ``start``, if there is one already.
    """

    def __init__(self, version: ObjectVersion, start: int, end: int, body: Any = None) -> None:
        self._version = version
        self._body = body
        self._pid = os.getpid()
        self.position = start
        self.end = end

    def read(self, count: int = _PIECE) -> bytes:
        """The next bytes, ``count`` at most; none only at the end.

        :raises StorageError: as :meth:`ObjectVersion.body`; or because the task that waits for it was cancelled.
        """
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        check_stop()
        count = min(count, self.end - self.position, _PIECE)
        if count <= 0:
            self.close()
            return b""
        reason, cause = "the server sent nothing", None
        for attempt in range(attempts_of(self._version.client())):
            try:
                data: bytes = self._here().read(count)
            except (BotoCoreError, HTTPError, OSError) as error:
                reason, cause = f"{type(error).__name__}: {error}", note_tried(error, attempt + 1)
                data = b""
            if data:
                self.position += len(data)
                if self.position == self.end:
                    self._check()
                    self.close()
                return data
            self.close()
        raise self._version.broken(reason, cause) from cause

    def _check(self) -> None:
        """Let boto3 compare a whole object with the checksum that S3 keeps: it does when it finds the body's end."""
        from botocore.exceptions import FlexibleChecksumError
        from botocore.httpchecksum import StreamingChecksumBody

        body: Any = self._body
        if isinstance(body, StreamingChecksumBody):
            try:
                body.read(1)
            except FlexibleChecksumError as error:
                self.close()
                raise self._version.broken("damaged", error) from error

    def close(self) -> None:
        """Leave the connection: to the pool if its answer was read to the end, else it is closed unread."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _here(self) -> Any:
        if self._body is None or self._pid != os.getpid():  # after a fork the connection is the parent's
            self.close()
            self._body, self._pid = self._version.body(self.position, self.end), os.getpid()
        return self._body


def first_range(
    client: Callable[[], Any], target: Mapping[str, Any], location: str, end: int | None
) -> tuple[ObjectVersion, RangeStream]:
    """Begin to read an object that nobody has looked at yet, in one request.

    :param end: how many bytes to ask for; all of them by default, and from a server that has no ranges.
    :raises ObjectNotFoundError: if there is none.
    """
    from botocore.exceptions import ClientError

    with s3_errors(target["Bucket"], location, "reading"):
        try:
            asked = {} if end is None else {"Range": f"bytes=0-{end - 1}"}
            response = client().get_object(**target, **asked)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 416:
                raise
            response = client().get_object(**target)  # of an empty object there is no first byte to ask for
    version = ObjectVersion(client, target, location, _size_of(response), response["ETag"])
    return version, RangeStream(version, 0, response["ContentLength"], response["Body"])


_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")  # RFC 9110, 14.4


def _start_of(response: Mapping[str, Any]) -> int:
    found = _CONTENT_RANGE.match(response.get("ContentRange", ""))
    return int(found[1]) if found else 0  # a server without ranges sends the whole


def _size_of(response: Mapping[str, Any]) -> int:
    found = _CONTENT_RANGE.match(response.get("ContentRange", ""))
    size: int = int(found[2]) if found else response["ContentLength"]
    return size
