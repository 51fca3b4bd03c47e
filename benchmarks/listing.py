"""Listing many objects of S3: what the clients cost, on a server that costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.listing_server import listing_server
from benchmarks.results import Result
from benchmarks.runner import measure

__all__ = ["run"]

_DAYS = 20


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 20_000 if settings.quick else 200_000
    with listing_server(count, _DAYS) as endpoint:
        args = (endpoint, count)
        contenders = (
            Contender("granite-storage", granite, args, note="iter_objects(): order checked, locations checked"),
            Contender("boto3", boto3_pages, args, goal=1 / 8, note="its paginator of list_objects_v2"),
            Contender("obstore", obstore_dicts, args, peer=True, note="in Rust; dicts"),
            Contender("obstore, arrow", obstore_arrow, args, peer=True, note="columns, no Python objects"),
        )
        yield measure(Case(f"list {count:,} keys of S3", contenders, count, "us/key", 1e6), settings.rounds)


def _counted(count: int, listing: Callable[[], int]) -> Round:
    def run() -> None:
        found = listing()
        assert found == count, f"{found} of {count} keys were listed"

    return Round(run)


@contextmanager
def granite(endpoint: str, count: int) -> Iterator[Round]:
    """``S3StorageBackend.iter_objects()``."""
    from granite_storage import S3StorageBackend

    backend = S3StorageBackend(
        bucket="bucket", endpoint_url=endpoint, region="us-east-1", access_key="key", secret_key="secret"
    )
    yield _counted(count, lambda: sum(1 for _ in backend.iter_objects()))


@contextmanager
def boto3_pages(endpoint: str, count: int) -> Iterator[Round]:
    """What every Python program does."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    pages = client.get_paginator("list_objects_v2")
    yield _counted(count, lambda: sum(len(page["Contents"]) for page in pages.paginate(Bucket="bucket")))


def _store(endpoint: str) -> Any:
    from obstore.store import S3Store

    return S3Store(
        "bucket",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )


@contextmanager
def obstore_dicts(endpoint: str, count: int) -> Iterator[Round]:
    """``obstore.list()``, a page of a thousand at a time."""
    import obstore

    store = _store(endpoint)
    yield _counted(count, lambda: sum(map(len, obstore.list(store, chunk_size=1000))))


@contextmanager
def obstore_arrow(endpoint: str, count: int) -> Iterator[Round]:
    """``obstore.list(return_arrow=True)``."""
    import obstore

    store = _store(endpoint)

    def listing() -> int:
        return sum(batch.num_rows for batch in obstore.list(store, chunk_size=1000, return_arrow=True))

    yield _counted(count, listing)
