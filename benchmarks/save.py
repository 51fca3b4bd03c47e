"""Saving one large object of S3 as a file on tmpfs: what is left is the server, the connections and writing."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Result
from benchmarks.runner import measure
from benchmarks.s3_servers import Server, s3_server
from granite_storage import StorageManager, StoragePolicy
from granite_storage.files import StoredFile

__all__ = ["run"]

_MIB = 2**20


def run(settings: Settings) -> Iterator[Result]:
    """From the S3 server of the benchmarks."""
    size = (32 if settings.quick else 256) * _MIB
    try:
        with s3_server(os.environ.get("GRANITE_BENCH_S3")) as server:
            yield _measure(server, size, settings)
    except LookupError as error:
        yield Result(f"save {size // _MIB} MB from S3", "", 0, (), skipped=str(error))


def _measure(server: Server, size: int, settings: Settings) -> Result:
    client, bucket = server.client(request_checksum_calculation="when_required"), f"save-{uuid.uuid4()}"
    client.create_bucket(Bucket=bucket)
    block = os.urandom(_MIB)
    manager = _manager(server, bucket)
    with _blocks(block, size) as stream:
        ref = manager.store("documents", stream).ref.to_json()
    memory = "/dev/shm"
    try:
        with tempfile.TemporaryDirectory(prefix="granite-bench-", dir=memory if os.path.isdir(memory) else None) as to:
            args = (server, bucket, ref, to)
            contenders = (
                Contender("granite-storage", granite, args, note="save_to(): four parts at once, each If-Match"),
                Contender("granite-storage, verify=True", granite_verify, args, note="and sha256 of what comes"),
                Contender("boto3", boto3, args, goal=1.0, note="download_file()"),
                Contender("minio", minio, args, peer=True, note="fget_object(): one connection"),
                Contender("obstore", obstore, args, peer=True, note="get() and write: one connection"),
            )
            title = f"save {size // _MIB} MB from {server.name}"
            # Of which boto3, that the process has not imported when it starts, is about 25 MiB.
            return measure(Case(title, contenders, 1, "ms", 1e3, peak_goal=64 * _MIB), settings.rounds)
    finally:
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)


@contextmanager
def _blocks(block: bytes, size: int) -> Iterator[Any]:
    with tempfile.TemporaryFile() as stream:
        for _ in range(size // _MIB):
            stream.write(block)
        stream.seek(0)
        yield stream


def _manager(server: Server, bucket: str) -> StorageManager:
    from granite_storage import S3StorageBackend

    backend = S3StorageBackend(
        bucket=bucket,
        region="us-east-1",
        endpoint_url=server.endpoint_url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        request_checksum_calculation="when_required",
        conditional_writes=False,
    )
    policy = StoragePolicy("documents", "s3", max_size=2**40)
    return StorageManager({"s3": backend}, {"documents": policy})


@contextmanager
def _saving(folder: str, size: int, save: Callable[[str], object]) -> Iterator[Round]:
    path = Path(folder, uuid.uuid4().hex)

    def check() -> None:
        assert path.stat().st_size == size
        path.unlink()

    yield Round(lambda: _ignore(save(str(path))), after=check)


def _ignore(result: object) -> None:
    """What a round returns would be taken for seconds."""


def _file(server: Server, bucket: str, ref: str) -> StoredFile:
    return _manager(server, bucket).file(ref)


@contextmanager
def granite(server: Server, bucket: str, ref: str, folder: str) -> Iterator[Round]:
    """``StoredFile.save_to()``."""
    file = _file(server, bucket, ref)
    with _saving(folder, file.size, file.save_to) as one:
        yield one


@contextmanager
def granite_verify(server: Server, bucket: str, ref: str, folder: str) -> Iterator[Round]:
    """``StoredFile.save_to(verify=True)``."""
    file = _file(server, bucket, ref)
    with _saving(folder, file.size, lambda path: file.save_to(path, verify=True)) as one:
        yield one


@contextmanager
def boto3(server: Server, bucket: str, ref: str, folder: str) -> Iterator[Round]:
    """``client.download_file()`` as it comes."""
    file, client = _file(server, bucket, ref), server.client()
    with _saving(folder, file.size, lambda path: client.download_file(bucket, file.location, path)) as one:
        yield one


@contextmanager
def minio(server: Server, bucket: str, ref: str, folder: str) -> Iterator[Round]:
    """``Minio.fget_object()``."""
    from minio import Minio

    file, secure = _file(server, bucket, ref), server.endpoint_url.startswith("https")
    host = server.endpoint_url.partition("://")[2]
    client = Minio(
        endpoint=host, access_key=server.access_key, secret_key=server.secret_key, region="us-east-1", secure=secure
    )
    save = lambda path: client.fget_object(bucket_name=bucket, object_name=file.location, file_path=path)  # noqa: E731
    with _saving(folder, file.size, save) as one:
        yield one


@contextmanager
def obstore(server: Server, bucket: str, ref: str, folder: str) -> Iterator[Round]:
    """``obstore.get()``, written as it comes."""
    from obstore.store import S3Store

    file = _file(server, bucket, ref)
    store = S3Store(
        bucket,
        endpoint=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )

    def save(path: str) -> None:
        with open(path, "wb") as target:
            target.writelines(store.get(file.location).stream(min_chunk_size=4 * _MIB))

    with _saving(folder, file.size, save) as one:
        yield one
