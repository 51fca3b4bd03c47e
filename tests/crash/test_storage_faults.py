"""The storage fails under a session: the disk is full, deletes are refused, an upload grows too old to be committed.

Nothing is lost and nothing dangles, the same session goes on, and sweeps leave what rows reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from granite_storage.exceptions import BackendError, UploadExpiredError
from granite_storage.orm.outbox import outbox_of
from tests.backends.disks import limited_files, read_only, small_disk
from tests.crash.operations import OPERATIONS, Doing, Source
from tests.crash.worlds import OLD, CrashWorld, State, content
from tests.databases import Database
from tests.orm.worlds import in_thread

_TOO_LARGE = 4 * 2**20  # bytes, for these disks


@pytest.fixture(params=["full disk", "limited files"])
def full_world(request: pytest.FixtureRequest, tables: Database, tmp_path: Path) -> Iterator[CrashWorld]:
    """A world whose files lie where 4 MiB do not fit; the database's own lie elsewhere."""
    with small_disk(tmp_path) if request.param == "full disk" else _limited(tmp_path) as (folder, _):
        made = CrashWorld(tables.url.render_as_string(hide_password=False), f"file://{folder}/stored?fsync=false")
        made.fill()
        yield made
        made.close()


@contextmanager
def _limited(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    with limited_files():
        yield tmp_path, 0


def _check(world: CrashWorld, expected: State) -> None:
    world.check_survivors(expected)
    report = world.sweep()
    assert report.complete, f"the sweep was not complete: {report}"
    world.check_swept(expected)


@pytest.mark.parametrize("operation", ["insert", "replace", "released savepoint", "rolled-back savepoint"])
def test_a_disk_that_is_full_in_the_middle_of_an_upload_costs_that_transaction_only(
    full_world: CrashWorld, operation: str
) -> None:
    world = full_world
    with world.session() as session:
        with pytest.raises(BackendError, match="storing"):
            OPERATIONS[operation].run(Doing(world, session, lambda step: None, _TOO_LARGE))
            session.flush()
        session.rollback()
        world.check_survivors(OLD)
        assert world.objects() == world.named() and world.unfinished() == []  # no sweep is needed for it
        OPERATIONS["replace"].run(Doing(world, session, lambda step: None))
        session.commit()
    _check(world, OPERATIONS["replace"].new())


def test_what_was_stored_beside_the_upload_that_found_the_disk_full_is_discarded(full_world: CrashWorld) -> None:
    world = full_world
    with world.session() as session:
        small = world.Document(title="c", report=content("c", "new"))
        session.add(small)
        session.flush()
        session.add(world.Document(title="d", report=Source(content("d", "new", _TOO_LARGE), lambda: None)))
        with pytest.raises(BackendError, match="storing"):
            session.commit()
        session.rollback()
        assert world.objects() == world.named() and world.unfinished() == []
        session.add(small)
        session.commit()
    _check(world, {**OLD, "c": content("c", "new")})


@pytest.mark.parametrize("operation", [name for name, one in OPERATIONS.items() if one.frees])
def test_a_storage_that_refuses_deletes_fails_no_commit_and_is_asked_again(world: CrashWorld, operation: str) -> None:
    expected = OPERATIONS[operation].new()
    (old_location,) = {location.rpartition("/")[0] for location in world.named()}
    freed = {file.location for title, file in _files(world).items() if expected.get(title) != OLD[title]}
    with read_only(world.backend.root_dir / old_location):
        with world.session() as session:
            OPERATIONS[operation].run(Doing(world, session, lambda step: None))
            session.commit()
            world.check_survivors(expected)
            assert set(world.outbox()) == freed <= world.objects()
            session.add(world.Document(title="later", report=content("c", "new")))
            session.commit()
        _make_due(world)
        report = world.sweep()
        assert (report.freed, report.failed) == (0, len(freed))
        assert set(world.outbox()) == freed <= world.objects()
    _make_due(world)
    _check(world, {**expected, "later": content("c", "new")})


@pytest.mark.parametrize("operation", [name for name, one in OPERATIONS.items() if one.stores])
def test_an_upload_that_a_sweep_may_have_taken_is_not_committed(world: CrashWorld, operation: str) -> None:
    grace = world.manager.grace
    with world.session() as session:
        OPERATIONS[operation].run(Doing(world, session, lambda step: None))
        session.flush()
        world.manager.grace = timedelta(microseconds=1)  # it is old by now
        swept = in_thread(world.sweep)
        if world.engine.dialect.name != "sqlite":  # where a sweep waits until the session has ended its transaction
            swept()
            assert world.objects() == world.named(), "the sweep has deleted the uploads"
        with pytest.raises(UploadExpiredError):
            session.commit()
        session.rollback()
        if world.engine.dialect.name == "sqlite":
            swept()
        world.manager.grace = grace
        world.check_survivors(OLD)
        OPERATIONS["replace"].run(Doing(world, session, lambda step: None))
        session.commit()
    _check(world, OPERATIONS["replace"].new())


def test_an_upload_that_is_too_old_is_stored_anew_by_the_retry(world: CrashWorld) -> None:
    grace = world.manager.grace
    with world.session() as session:
        document = world.Document(title="c", report=content("c", "new"))
        session.add(document)
        session.flush()
        first = document.report.location
        world.manager.grace = timedelta(microseconds=1)
        with pytest.raises(UploadExpiredError):
            session.commit()
        session.rollback()
        world.manager.grace = grace
        session.add(document)
        session.commit()
        assert document.report.location != first
    _check(world, {**OLD, "c": content("c", "new")})


def _files(world: CrashWorld) -> dict[str, object]:
    with world.session() as session:
        return {one.title: one.report for one in session.scalars(select(world.Document))}


def _make_due(world: CrashWorld) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.begin() as connection:
        connection.execute(update(outbox).values(not_before=None))
