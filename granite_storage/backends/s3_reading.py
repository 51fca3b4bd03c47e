"""Whole objects from S3: into memory, or into a file, several parts at once."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from contextvars import copy_context
from typing import Any, BinaryIO

from granite_storage.backends.s3_ranges import ObjectVersion, RangeStream, first_range

__all__ = ["read_into", "read_whole"]

_PART = 8 * 1024**2
_MAX_PARTS = 10_000  # of larger objects the parts are larger, so that there is no endless list of them
_CONNECTIONS = 4  # per object: with the manager's 8 threads that is max_pool_connections
_PIECE = 1024**2

_Follow = Callable[[bytes], object] | None


def read_whole(client: Callable[[], Any], target: Mapping[str, Any], location: str) -> bytes:
    """The content of an object; raises as :func:`.first_range`."""
    _, stream = first_range(client, target, location, None)
    content = io.BytesIO()  # gives what was written without a copy
    with closing(stream):
        while piece := stream.read():
            content.write(piece)
    return content.getvalue()


def read_into(
    client: Callable[[], Any], target: Mapping[str, Any], location: str, size: int, file: BinaryIO, follow: _Follow
) -> int:
    """Write an object into a file, as :meth:`.ParallelReadBackend.read_into` says.

    A large one comes over four connections, in parts of 8 MiB, or of a ten thousandth of it. Each part is written
    where it belongs as it arrives, a piece of 1 MiB at a time; so that is the memory a connection needs.

    :param size: how large the object probably is (bytes).
    """
    version, first = first_range(client, target, location, _PART if size > _PART else None)
    with closing(first):
        if first.end == version.size:  # small, or from a server without ranges
            _fetch(first, file, follow)
        else:
            _fetch_in_parts(version, first, file, follow)
    return version.size


def _fetch(stream: RangeStream, file: BinaryIO, follow: _Follow) -> None:
    while piece := stream.read(_PIECE):
        _write(file, piece, stream.position - len(piece))
        if follow is not None:
            follow(piece)


def _fetch_in_parts(version: ObjectVersion, first: RangeStream, file: BinaryIO, follow: _Follow) -> None:
    from concurrent.futures import ThreadPoolExecutor

    failures: list[BaseException] = []

    def fetch(part: RangeStream) -> None:
        try:
            with closing(part):
                while not failures and (piece := part.read(_PIECE)):
                    _write(file, piece, part.position - len(piece))
        except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
            failures.append(error)

    part_size = max(_PART, -(-version.size // _MAX_PARTS))
    starts = range(first.end, version.size, part_size)
    parts = [first, *(RangeStream(version, start, min(start + part_size, version.size)) for start in starts)]
    ends = [part.end for part in parts]
    with ThreadPoolExecutor(min(_CONNECTIONS, len(parts)), thread_name_prefix="granite-storage-read") as threads:
        try:
            at = 0
            # In a copy of the context each, which tells whether anybody still waits for the object.
            for future, end in zip(
                [threads.submit(copy_context().run, fetch, part) for part in parts], ends, strict=True
            ):
                future.result()
                while follow is not None and at < end and not failures:
                    piece = os.pread(file.fileno(), min(_PIECE, end - at), at)
                    follow(piece)
                    at += len(piece)
        except BaseException as error:  # an interrupt, or an error of follow: the parts stop
            failures.append(error)
            raise
    if failures:
        raise failures[0]


def _write(file: BinaryIO, piece: bytes, offset: int) -> None:
    # Its number is asked for each time: if two interrupts closed the file, the number may be another's by now.
    written = os.pwrite(file.fileno(), piece, offset)
    while written < len(piece):
        written += os.pwrite(file.fileno(), memoryview(piece)[written:], offset + written)
