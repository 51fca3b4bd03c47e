"""An S3 server that fails under a session: the row and the object still live and die together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.proxy import Fault, FaultyProxy
from tests.conftest import Bucket
from tests.orm.outboxes import freed, make_due
from tests.orm.worlds import World

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def direct(s3_bucket: Bucket) -> S3StorageBackend:
    """The same bucket, undisturbed."""
    return S3StorageBackend(bucket=s3_bucket.name, client=s3_bucket.client)


@pytest.fixture
def world(engine: Engine, through: Callable[..., S3StorageBackend]) -> Iterator[World]:
    """A world whose objects are in a bucket behind the proxy, with one document in it."""
    made = World(engine)
    with made.manager.override(backends={"memory": through()}, policies=made.manager.policies):
        made.add(title="first", report=b"first")
        yield made


@pytest.mark.parametrize("fault", [faults.refused(403, "AccessDenied"), faults.lost_answer], ids=["refused", "lost"])
def test_an_upload_that_fails_among_five_rolls_all_back_and_a_retry_stores_all(
    world: World, proxy: FaultyProxy, direct: S3StorageBackend, fault: Fault
) -> None:
    proxy.on("PutObject", fault, skip=2)  # of five, from the third on
    documents = [world.Document(title=f"{number}", report=b"%d" % number) for number in range(5)]
    with world.session() as session:
        session.add_all(documents)
        if fault is faults.lost_answer:  # an answer is lost, but the objects are found to be ours
            session.flush()
            session.rollback()
        else:
            with pytest.raises(BackendError, match="AccessDenied"):
                session.commit()
            session.rollback()
        assert sorted(direct.iter_locations()) == sorted(world.named()), "what had been stored is discarded"
        assert len(world.named()) == 1
        proxy.clear()
        session.add_all(documents)
        session.commit()
    named = world.named()
    assert len(named) == 6 and sorted(direct.iter_locations()) == sorted(named)
    with world.session() as session:
        assert sorted(one.report.read() for one in session.query(world.Document)) == [*b"0 1 2 3 4".split(), b"first"]


@pytest.mark.parametrize("fault", [faults.refused(503, "SlowDown"), faults.lost_request], ids=["503", "reset"])
def test_a_delete_that_fails_fails_no_commit_and_is_done_by_the_sweep(
    world: World, proxy: FaultyProxy, direct: S3StorageBackend, fault: Fault
) -> None:
    (old,) = world.named()
    for operation in ("DeleteObject", "DeleteObjects"):
        proxy.on(operation, fault)
    with world.session() as session:
        document = session.query(world.Document).one()
        document.report = b"second"
        session.commit()
        assert [row.location for row in freed(world)] == [old]
        assert sorted(direct.iter_locations()) == sorted([old, *world.named()])
        assert document.report.read() == b"second", "the session goes on"
    make_due(world)
    assert world.manager.sweep(world.engine).failed == 1
    proxy.clear()
    make_due(world)
    assert world.manager.sweep(world.engine).freed == 1
    assert freed(world) == []
    assert list(direct.iter_locations()) == world.named()
