"""Uploads to S3, and copies inside it, through boto3's managed transfer.

An object of up to one part is a single PUT; a larger one is a multipart upload that several threads send, a few
parts in memory at a time, and that is aborted if anything fails. The managed transfer is used by its class rather than
through ``client.upload_fileobj``, which has no argument for ``If-None-Match``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import ContentTooLargeError, UnassignableError

__all__ = ["COPY_IN_PARTS", "copy_object", "upload"]

COPY_IN_PARTS = 1024**3
"""Copies from this size (bytes) on are made in parts; S3 takes 5 GiB at most in one request."""

_THREADS = 4
_PARTS_IN_MEMORY = 4
_MAX_PARTS = 10_000


def upload(
    client: Any,
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
    :param size: bytes, if known: parts grow with it, since an upload has 10 000 at most.
    :param part_size: bytes.
    :param overwrite: whether an object that is there may be replaced.
    :returns: how many bytes it was.
    """
    if not overwrite:
        client = _IfNoneMatch(client)
    if size is not None:
        part_size = max(part_size, -(-size // (_MAX_PARTS - 1)))
    source = _Source(stream, part_size * _MAX_PARTS)
    try:
        head = source.read(part_size)
        with s3_errors(target["Bucket"], location, "storing"):
            if len(head) < part_size:
                client.put_object(**target, **arguments, Body=head)
            else:
                source.give_back(head)
                del head
                _upload_in_parts(client, source, target, arguments, part_size)
    except Exception:
        if source.error is not None:
            raise source.error from source.error.__cause__
        raise
    return source.count


def _upload_in_parts(
    client: Any, source: _Source, target: Mapping[str, str], arguments: Mapping[str, Any], part_size: int
) -> None:
    from s3transfer.manager import TransferManager

    body = cast("BinaryIO", source)
    with TransferManager(client, _settings(part_size)) as transfers:
        transfers.upload(body, target["Bucket"], target["Key"], extra_args=dict(arguments)).result()


def copy_object(
    client: Any,
    source: Mapping[str, str],
    target: Mapping[str, str],
    arguments: Mapping[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Copy an object on the server, in parts if it is large.

    :param arguments: arguments of PutObject; with a ``ContentType`` they replace what is recorded with the source.
    """
    from s3transfer.manager import TransferManager

    if not overwrite:
        client = _IfNoneMatch(client)
    allowed = {name: value for name, value in arguments.items() if name in TransferManager.ALLOWED_COPY_ARGS}
    allowed |= {f"CopySource{name}": value for name, value in arguments.items() if name.startswith("SSECustomer")}
    if "ContentType" in arguments:
        allowed["MetadataDirective"] = "REPLACE"
    settings = _settings(COPY_IN_PARTS, COPY_IN_PARTS)
    with TransferManager(client, settings) as transfers:
        transfers.copy(dict(source), target["Bucket"], target["Key"], extra_args=allowed).result()


def _settings(part_size: int, threshold: int | None = None) -> Any:
    from s3transfer.manager import TransferConfig

    return TransferConfig(
        multipart_threshold=threshold or part_size,
        multipart_chunksize=part_size,
        max_request_concurrency=_THREADS,
        max_in_memory_upload_chunks=_PARTS_IN_MEMORY,
    )


class _IfNoneMatch:
    """A client whose requests make an object only where there is none."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **arguments: Any) -> Any:
        return self._client.put_object(**arguments, IfNoneMatch="*")

    def complete_multipart_upload(self, **arguments: Any) -> Any:
        return self._client.complete_multipart_upload(**arguments, IfNoneMatch="*")


class _SourceError(Exception):
    """Stands for what a stream raised: an interrupt in one of its threads would hang the managed transfer for ever."""


class _Source:
    """A stream as the managed transfer must see it.

    It has no ``seek``, so that all reading is done before a part is sent: an error of the stream is then not taken for
    one of the network and tried again. A read is never short but at the end: a short one would be taken for the end.
    """

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._read = stream.read
        self._limit = limit
        self._ahead = b""
        self.count = 0
        self.error: BaseException | None = None

    def give_back(self, data: bytes) -> None:
        """Let the next read begin with this."""
        self._ahead = data

    def read(self, amount: int = -1) -> bytes:
        """Exactly ``amount`` bytes, fewer only at the end; all with -1."""
        ahead, self._ahead = self._ahead, b""
        if 0 <= amount < len(ahead):
            ahead, self._ahead = ahead[:amount], ahead[amount:]
        if len(ahead) == amount:
            return ahead
        parts = [ahead] if ahead else []
        wanted = amount - len(ahead) if amount >= 0 else -1
        while wanted:
            part = self._next(wanted)
            if not part:
                break
            parts.append(part)
            wanted = max(wanted - len(part), 0) if wanted > 0 else -1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next(self, amount: int) -> bytes:
        try:
            part = self._read(amount)
            if part is None:
                raise UnassignableError("the stream is in non-blocking mode and has no data now; make it blocking")
            if self.count + len(part) > self._limit:
                raise ContentTooLargeError(
                    f"the content is larger than {self._limit} bytes, the most that fits into {_MAX_PARTS} parts: "
                    "give its size beforehand, or make the backend with a larger part_size"
                )
        except BaseException as error:
            self.error = error
            raise _SourceError from error
        self.count += len(part)
        return bytes(part)
