"""Uploads to S3: one pass over the stream, in one request or in parts that are sent side by side.

The caller's thread reads; as soon as a part is full, a thread of the backend's :class:`UploadPool` sends it while the
next is read. What is sent lies in memory, so that boto3 can send it again, and goes with a CRC32 in a header, which S3
keeps. A header, since servers refuse the trailers that boto3 makes over TLS; the bytes are hashed for the signature
besides, over TLS too, so that every server that looks at signatures refuses bytes that were damaged on the way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Any, BinaryIO

from granite_storage.backends.s3_checksum import begin_arguments, checksum_of, checksums_in
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_landed import landed, marked, undone_if_interrupted
from granite_storage.backends.s3_multipart import Multipart, multipart
from granite_storage.backends.s3_parts import LARGEST_OBJECT, MAX_PARTS, part_sizes
from granite_storage.backends.s3_pool import PartBuffer, UploadPool
from granite_storage.backends.s3_source import PartSource
from granite_storage.exceptions import ContentTooLargeError
from granite_storage.intake.stopping import check_stop

__all__ = ["upload"]

_SMALL = 256 * 1024
"""Up to so many bytes no buffer is needed, so that small objects never wait for large ones."""


def upload(
    client: Any,
    pool: UploadPool,
    stream: BinaryIO,
    target: Mapping[str, str],
    arguments: Mapping[str, Any],
    location: str,
    *,
    size: int | None,
    part_size: int,
    overwrite: bool,
) -> int:
    """Store what ``stream`` still gives; what the stream raises comes out as it is.

    :param target: ``Bucket`` and ``Key``.
    :param arguments: further arguments of PutObject.
    :param location: how errors call the object.
    :param size: bytes, if known: see :func:`part_sizes`.
    :param part_size: bytes.
    :param overwrite: whether an object that is there may be replaced.
    :returns: how many bytes it was.
    :raises ContentTooLargeError: if the stream gives more than fits into 10 000 parts, or into an object of S3.
    """
    if size is not None and size > LARGEST_OBJECT:
        raise _too_large(size)
    source = PartSource(stream)
    head = source.read(_SMALL)
    if not source.has_more():
        # boto3 makes a file of bytes, and asks before it sends one (Expect: 100-continue): a round trip more.
        _put(client, target, arguments, location, bytearray(head), overwrite)
        return source.count
    sizes = part_sizes(part_size, size)
    with pool.take(next(sizes)) as first:
        source.fill(first.content, head)
        del head
        if not source.has_more():
            _put(client, target, arguments, location, first.content, overwrite)
            return source.count
        began = begin_arguments(client, arguments)
        with multipart(client, target, began, location=location, doing="storing") as begun:
            parts = _Sending(client, pool, begun, location).send_all(source, first, sizes)
            check_stop()
            with s3_errors(target["Bucket"], location, "storing"):
                begun.complete(parts, overwrite=overwrite)
    return source.count


def _put(
    client: Any,
    target: Mapping[str, str],
    arguments: Mapping[str, Any],
    location: str,
    content: bytearray,
    overwrite: bool,
) -> None:
    arguments = marked(arguments)
    sums = checksum_of(client, arguments, content)
    condition = {} if overwrite else {"IfNoneMatch": "*"}
    with s3_errors(target["Bucket"], location, "storing"), undone_if_interrupted(client, target, arguments):
        try:
            client.put_object(**target, **{**arguments, **sums}, **condition, Body=content)
        except Exception as error:
            if landed(client, target, arguments, error) is None:
                raise


class _Sending:
    """The parts of one upload on their way."""

    def __init__(self, client: Any, pool: UploadPool, begun: Multipart, location: str) -> None:
        self._client = client
        self._pool = pool
        self._begun = begun
        self._location = location
        self._failed = threading.Event()
        self._sent: list[Future[dict[str, Any]]] = []

    def send_all(self, source: PartSource, first: PartBuffer, sizes: Iterator[int]) -> list[dict[str, Any]]:
        """Send the first part, and those that the source still gives; gives what completes the upload.

        When it returns or raises none is on its way any more.
        """
        try:
            self._submit(first)
            while source.has_more() and not self._failed.is_set():
                size = next(sizes, None)
                if size is None or source.count > LARGEST_OBJECT:
                    raise _too_large(source.count)
                self._read_and_submit(source, size)
            return [part.result() for part in self._sent]
        except BaseException:
            self._failed.set()
            raise
        finally:
            wait(self._sent)

    def _read_and_submit(self, source: PartSource, size: int) -> None:
        buffer = self._pool.take(size)
        try:
            source.fill(buffer.content, stop=self._failed.is_set)
            self._submit(buffer)
        except BaseException:
            buffer.release()
            raise

    def _submit(self, buffer: PartBuffer) -> None:
        self._sent.append(self._pool.submit(self._send, len(self._sent) + 1, buffer))

    def _send(self, number: int, buffer: PartBuffer) -> dict[str, Any]:
        with buffer:
            if self._failed.is_set():
                return {}  # nobody wants it any more
            try:
                return self._send_part(number, buffer.content)
            except BaseException:
                self._failed.set()
                raise

    def _send_part(self, number: int, content: bytearray) -> dict[str, Any]:
        sums = checksum_of(self._client, self._begun.arguments, content)
        with s3_errors(self._begun.target["Bucket"], self._location, "storing"):
            answer = self._client.upload_part(**self._begun.part, **sums, PartNumber=number, Body=content)
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums_in({**answer, **sums})}


def _too_large(count: int) -> ContentTooLargeError:
    if count > LARGEST_OBJECT:
        return ContentTooLargeError(
            f"the content is larger than {LARGEST_OBJECT} bytes, S3's limit; store it in pieces"
        )
    return ContentTooLargeError(
        f"the content is larger than {count - 1} bytes, the most that fits into {MAX_PARTS} parts of their sizes: give "
        "its size beforehand, or make the backend with a larger part_size"
    )
