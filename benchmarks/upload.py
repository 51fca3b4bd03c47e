"""Uploading a large stream that cannot be rewound to an S3 server on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast
from urllib.parse import quote, urlsplit

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Result
from benchmarks.runner import measure
from benchmarks.s3_servers import Server, s3_server
from granite_storage import StorageManager, StoragePolicy

__all__ = ["run"]

_MIB = 2**20


def run(settings: Settings) -> Iterator[Result]:
    """On the server that :func:`s3_server` gives."""
    size = (64 if settings.quick else 256) * _MIB
    try:
        with s3_server() as server:
            args = (server, size)
            contenders = (
                Contender("granite-storage", granite, args, note="manager.store(): sha256, CRC32, signed"),
                Contender("boto3", boto3_plain, args, goal=1.0, note="upload_fileobj: CRC32, signed"),
                Contender("boto3 + sha256", boto3_hashing, args, note="of a stream that hashes what is read"),
                Contender("boto3 put_object", boto3_put, args, note="all of it in memory"),
                Contender("minio-py", minio_py, args, peer=True, note="put_object: MD5 or signed"),
                Contender("obstore", obstore_put, args, peer=True, note="put: no checksum; signed"),
            )
            title = f"upload a {size // _MIB} MB stream to {server.name}"
            case = Case(
                title,
                contenders,
                1,
                "ms",
                1e3,
                peak_goal=96 * _MIB,
                cpu_goal=("boto3", hashing_alone(size)),
                peak_below="boto3",
            )
            yield measure(case, settings.rounds)
    except LookupError as error:
        yield Result(f"upload {size // _MIB} MB to S3", "", 0, (), skipped=str(error))


@cache
def _block() -> memoryview:
    return memoryview(os.urandom(_MIB))


class OneShot(io.RawIOBase):
    """``size`` bytes that can be read once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._block = _block()
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._left)
        for start in range(0, wanted, _MIB):  # all that was asked for: boto3 takes a short read for a part
            step = min(_MIB, wanted - start)
            view[start : start + step] = self._block[:step]
        self._left -= wanted
        return wanted


class Hashing(io.RawIOBase):
    """Hashes what is read of it."""

    def __init__(self, stream: OneShot) -> None:
        super().__init__()
        self._stream = stream
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        return count


def hashing_alone(size: int) -> float:
    """The CPU seconds of a SHA-256 of so many bytes."""
    import time

    block, digest = os.urandom(_MIB), hashlib.sha256()
    start = time.process_time()
    for _ in range(size // _MIB):
        digest.update(block)
    return time.process_time() - start


@contextmanager
def _uploading(server: Server, size: int, put: Callable[[str, OneShot], object]) -> Iterator[Round]:
    """A round that stores a stream in a bucket of its own, which is emptied afterwards."""
    client, bucket = server.client(), f"granite-{uuid.uuid4()}"
    client.create_bucket(Bucket=bucket)

    def listed() -> list[Any]:
        return client.list_objects_v2(Bucket=bucket).get("Contents", [])

    def check() -> None:
        [found] = [one for one in listed() if "/.granite-storage/" not in f"/{one['Key']}"]
        assert found["Size"] == size, f"{found['Size']} bytes were stored, not {size}"
        client.delete_object(Bucket=bucket, Key=found["Key"])

    yield Round(lambda: cast(None, put(bucket, OneShot(size))) and None, after=check)
    for mark in listed():
        client.delete_object(Bucket=bucket, Key=mark["Key"])
    client.delete_bucket(Bucket=bucket)


@contextmanager
def granite(server: Server, size: int) -> Iterator[Round]:
    """``manager.store()``."""
    managers: list[StorageManager] = []

    def put(bucket: str, stream: OneShot) -> None:
        if not managers:
            url = (
                f"s3://{server.access_key}:{server.secret_key}@{bucket}/?region=us-east-1&addressing_style=path"
                f"&endpoint_url={quote(server.endpoint_url, safe='')}"
            )
            managers.append(StorageManager({"s3": url}, {"documents": StoragePolicy("documents", "s3")}))
        assert managers[0].store("documents", cast(Any, stream)).size == size

    with _uploading(server, size, put) as one:
        yield one


@contextmanager
def boto3_plain(server: Server, size: int) -> Iterator[Round]:
    """``upload_fileobj()``, without a SHA-256."""
    client = server.client()
    with _uploading(server, size, lambda bucket, stream: client.upload_fileobj(stream, bucket, "x")) as one:
        yield one


@contextmanager
def boto3_hashing(server: Server, size: int) -> Iterator[Round]:
    """``upload_fileobj()`` of a stream that hashes."""
    client = server.client()
    with _uploading(server, size, lambda bucket, stream: client.upload_fileobj(Hashing(stream), bucket, "x")) as one:
        yield one


@contextmanager
def boto3_put(server: Server, size: int) -> Iterator[Round]:
    """``put_object()``."""
    client = server.client()
    with _uploading(
        server, size, lambda bucket, stream: client.put_object(Bucket=bucket, Key="x", Body=stream.read())
    ) as one:
        yield one


@contextmanager
def minio_py(server: Server, size: int) -> Iterator[Round]:
    """``Minio.put_object()`` with parts as large as ours."""
    from minio import Minio

    where = urlsplit(server.endpoint_url)
    client = Minio(
        endpoint=where.netloc,
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=where.scheme == "https",
        region="us-east-1",
    )

    def put(bucket: str, stream: OneShot) -> None:
        client.put_object(bucket_name=bucket, object_name="x", data=cast(Any, stream), length=-1, part_size=8 * _MIB)

    with _uploading(server, size, put) as one:
        yield one


@contextmanager
def obstore_put(server: Server, size: int) -> Iterator[Round]:
    """``obstore.put()``."""
    import obstore
    from obstore.store import S3Store

    def put(bucket: str, stream: OneShot) -> None:
        store = S3Store(
            bucket,
            endpoint=server.endpoint_url,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        obstore.put(store, "x", iter(lambda: stream.read(8 * _MIB), b""), chunk_size=8 * _MIB)

    with _uploading(server, size, put) as one:
        yield one
