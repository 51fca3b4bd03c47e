"""Finding orphans among millions of objects of S3, and deleting them: requests are counted, and time is taken.

The store costs next to nothing (:mod:`.orphans_server`): what is left is the client, and the database.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from sqlalchemy import create_engine

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.garbage import Base, fill, location
from benchmarks.listing_server import PAGE
from benchmarks.orphans_server import BUCKET, orphans_server
from benchmarks.results import Fact, Result
from benchmarks.runner import measure
from granite_storage import S3StorageBackend, StorageManager, StoragePolicy
from granite_storage.gc import StorageGarbageCollector

__all__ = ["run"]

_MIB = 2**20
_BATCH = 1000
_EVERY = 100  # one of so many objects is an orphan
_TENTH = 10


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 100_000 if settings.quick else 5_000_000
    with TemporaryDirectory(dir=settings.directory) as folder, orphans_server(count) as endpoint:
        database = str(Path(folder) / "shop.db")
        fill(database, (number for number in range(count) if number % _EVERY), location)
        args = (endpoint, database, count)
        contenders = (
            Contender("granite-storage", collecting, args, note="StorageGarbageCollector.collect(dry_run=False)"),
            Contender(
                "by hand", by_hand, args, goal=1.0, note="boto3, a set of all refs; a tenth of the listing, times ten"
            ),
        )
        title = f"find and delete {count // _EVERY:,} orphans in {count:,} objects of S3"
        case = Case(title, contenders, count, "us/object", 1e6, peak_goal=64 * _MIB, peak_below="by hand")
        yield measure(case, min(settings.rounds, 2), _requests(args))


def _requests(args: tuple[str, str, int]) -> Iterator[Fact]:
    endpoint, _, count = args
    with collecting(*args) as one:
        one.before()
        one.run()
        counted = _counts(endpoint)
        one.after()
    orphans = count // _EVERY
    for kind, wanted in (("list", count // PAGE), ("delete", orphans // _BATCH)):
        yield Fact(f"{counted[kind]:,} {kind} requests", f"= {wanted:,}", counted[kind] == wanted)
    others = sum(counted.values()) - counted["list"] - counted["delete"] - counted["deleted"]
    yield Fact(f"{others} other requests, whatever the store holds", "<= 20", others <= 20)


def _counts(endpoint: str) -> dict[str, int]:
    with urlopen(f"{endpoint}/counts") as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def _reset(endpoint: str) -> None:
    urlopen(Request(f"{endpoint}/reset", method="POST")).close()


def _check(endpoint: str, deleted: int) -> None:
    assert _counts(endpoint)["deleted"] == deleted


@contextmanager
def collecting(endpoint: str, database: str, count: int) -> Iterator[Round]:
    """Find and delete."""
    engine = create_engine(f"sqlite:///{database}")
    backend = S3StorageBackend(
        bucket=BUCKET, endpoint_url=endpoint, region="us-east-1", access_key="key", secret_key="secret"
    )
    manager = StorageManager({"store": backend}, {"documents": StoragePolicy("documents", "store", key_prefix="docs")})
    manager.attach(Base, engine=engine)

    def collect() -> None:
        report = StorageGarbageCollector(manager).collect(dry_run=False)
        assert (report.scanned, report.deleted) == (count, count // _EVERY), report

    yield Round(collect, lambda: _reset(endpoint), lambda: _check(endpoint, count // _EVERY))
    engine.dispose()


@contextmanager
def by_hand(endpoint: str, database: str, count: int) -> Iterator[Round]:
    """What 0.1.0's users could do, with the deletes in batches."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )

    def collect() -> float:
        start = time.perf_counter()
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT report FROM document")
            named = {json.loads(text)["location"] for (text,) in rows}
        read = time.perf_counter()
        listing = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="docs/")
        pages = islice(listing, count // PAGE // _TENTH)
        orphans = [one["Key"] for page in pages for one in page["Contents"] if one["Key"] not in named]
        for first in range(0, len(orphans), _BATCH):
            keys = [{"Key": key} for key in orphans[first : first + _BATCH]]
            assert not client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys}).get("Errors")
        return read - start + (time.perf_counter() - read) * _TENTH

    yield Round(collect, lambda: _reset(endpoint), lambda: _check(endpoint, count // _EVERY // _TENTH))
