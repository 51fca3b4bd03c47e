"""Thousands of objects that nobody names any more go in full batches, whoever deletes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import JSON, Engine, column, delete, insert, table

from granite_storage import S3StorageBackend
from granite_storage.locations import new_location
from granite_storage.orm.outbox import outbox_of
from tests.orm.worlds import World

pytestmark = pytest.mark.databases("sqlite", "postgresql")

FREED = 2_500
BATCHES = 3


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


@contextmanager
def _on_s3(world: World, bucket: Any) -> Iterator[list[str]]:
    """Let the world's objects be on S3; gives the names of the requests that delete."""
    deletes: list[str] = []
    client = bucket.server.client()
    client.meta.events.register(
        "before-call.s3", lambda model, **_: deletes.append(model.name) if "Delete" in model.name else None
    )
    backend = S3StorageBackend(bucket=bucket.name, client=client)
    with world.manager.override(backends={"memory": backend}, policies=world.manager.policies):
        yield deletes
    client.close()


def _refs() -> list[dict[str, Any]]:
    """As many refs; their objects need not be there, and are deleted all the same."""
    return [
        {"storage_key": "documents", "backend": "memory", "location": f"docs/{number}", "size": 1, "checksum": ""}
        for number in range(FREED)
    ]


def test_what_one_transaction_frees_goes_in_full_batches(world: World, s3_bucket: Any) -> None:
    documents = table("document", column("id"), column("report", JSON))
    with world.engine.begin() as connection:
        connection.execute(insert(documents), [{"report": ref} for ref in _refs()])
    with _on_s3(world, s3_bucket) as deletes, world.session() as session:
        session.execute(delete(world.Document))
        session.commit()
    assert deletes == ["DeleteObjects"] * BATCHES
    outbox = outbox_of(world.Base.metadata)
    with world.engine.connect() as connection:
        assert connection.execute(outbox.select()).all() == []


def test_a_sweep_of_the_outbox_deletes_in_full_batches(world: World, s3_bucket: Any) -> None:
    outbox = outbox_of(world.Base.metadata)
    members = ("storage_key", "backend", "location", "size")
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), [{member: ref[member] for member in members} for ref in _refs()])
    with _on_s3(world, s3_bucket) as deletes:
        assert world.manager.sweep(world.engine).freed == FREED
    assert deletes == ["DeleteObjects"] * BATCHES


def test_a_sweep_of_recent_uploads_deletes_in_full_batches(world: World, s3_bucket: Any) -> None:
    with _on_s3(world, s3_bucket) as deletes:
        backend = world.manager.backends["memory"]
        for _ in range(25):
            backend.put_bytes(key=new_location("docs", ".bin"), content=b"x")
        report = world.manager.sweep(world.engine, grace=timedelta(0), force=True)
    assert (report.orphans, deletes) == (25, ["DeleteObjects"])
