"""Deleting many objects of S3: a thousand in a request, or one by one."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Fact, Result
from benchmarks.runner import measure
from benchmarks.s3_servers import Server, s3_server
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.refs import StoredObjectRef

__all__ = ["run", "throwaway_bucket"]

_BATCH = 1000
_TENTH = 10
_PUTS_AT_ONCE = 32


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 1_000 if settings.quick else 10_000
    with s3_server() as server, throwaway_bucket(server) as bucket:
        args = (server, bucket, count)
        contenders = (
            Contender("granite-storage", granite, args, note="delete_many(): confirmed key by key; 4 batches at once"),
            Contender("boto3, batches", boto3_batches, args, note="delete_objects, quiet, one batch after the other"),
            Contender("boto3, one by one", boto3_one_by_one, args, note="a tenth of them, times ten"),
        )
        case = Case(f"delete {count:,} objects of S3 ({server.name})", contenders, count, "ms/object", 1e3)
        rounds = min(settings.rounds, 3)  # each puts what it deletes, which takes longer
        yield measure(case, rounds, [_requests(server, bucket, count)])


@contextmanager
def throwaway_bucket(server: Server) -> Iterator[str]:
    """The name of a new bucket, which is emptied and removed afterwards."""
    bucket = f"bench-{uuid.uuid4()}"
    client = server.client()
    client.create_bucket(Bucket=bucket)
    try:
        yield bucket
    finally:
        # Not by iter_locations(), which does not show the marks of whose objects these are.
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for objects in [[{"Key": one["Key"]} for one in page.get("Contents", ())] for page in pages]:
            if objects:
                client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        client.delete_bucket(Bucket=bucket)


def _requests(server: Server, bucket: str, count: int) -> Fact:
    client = server.client()
    seen: list[str] = []
    client.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.method))
    S3StorageBackend(bucket=bucket, client=client).delete_many([_ref(f"none/{number}") for number in range(count)])
    wanted = -(-count // _BATCH)
    return Fact(f"{len(seen)} requests delete {count:,} objects", f"= {wanted}", len(seen) == wanted)


def _ref(location: str) -> StoredObjectRef:
    return StoredObjectRef("", "s3", location, 0, "")


@contextmanager
def _deleting(server: Server, bucket: str, count: int, delete: Callable[[Any, list[str]], object]) -> Iterator[Round]:
    folder = uuid.uuid4().hex
    keys = [f"{folder}/{number:05}" for number in range(count)]
    client = server.client()

    def check() -> None:
        left = client.list_objects_v2(Bucket=bucket, Prefix=folder + "/")
        assert not left.get("Contents"), "something was not deleted"

    yield Round(lambda: _none(delete(client, keys)), lambda: _put(server, bucket, keys), check)


def _none(value: object) -> float | None:
    return value if isinstance(value, float) else None


def _put(server: Server, bucket: str, keys: list[str]) -> None:
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        endpoint=server.endpoint_url,
        region="us-east-1",
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        client_options={"allow_http": True},
    )

    async def put_all() -> None:
        free = asyncio.Semaphore(_PUTS_AT_ONCE)

        async def put(key: str) -> None:
            async with free:
                await store.put_async(key, b"x", use_multipart=False)

        await asyncio.gather(*map(put, keys))

    asyncio.run(put_all())


@contextmanager
def granite(server: Server, bucket: str, count: int) -> Iterator[Round]:
    """``S3StorageBackend.delete_many()``."""

    def delete(client: Any, keys: list[str]) -> None:
        backend = S3StorageBackend(bucket=bucket, client=client)
        assert backend.delete_many([_ref(key) for key in keys]) == []

    with _deleting(server, bucket, count, delete) as one:
        yield one


@contextmanager
def boto3_batches(server: Server, bucket: str, count: int) -> Iterator[Round]:
    """A loop of ``delete_objects``."""

    def delete(client: Any, keys: list[str]) -> None:
        for start in range(0, count, _BATCH):
            objects = [{"Key": key} for key in keys[start : start + _BATCH]]
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            assert not answer.get("Errors")

    with _deleting(server, bucket, count, delete) as one:
        yield one


@contextmanager
def boto3_one_by_one(server: Server, bucket: str, count: int) -> Iterator[Round]:
    """A loop of ``delete_object``."""

    def delete(client: Any, keys: list[str]) -> float:
        start = time.perf_counter()
        for key in keys:
            client.delete_object(Bucket=bucket, Key=key)
        return (time.perf_counter() - start) * _TENTH

    with _deleting(server, bucket, count // _TENTH, delete) as one:
        yield one
