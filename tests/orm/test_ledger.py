from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from granite_storage import locations
from granite_storage.exceptions import ObjectNotFoundError, UploadExpiredError
from granite_storage.orm import ledger
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


# The root transaction


def test_a_rollback_discards_what_was_stored(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        session.get_one(world.Document, key).report = b"new"
        session.add(world.Document(report=b"other"))
        session.flush()
        assert world.contents() == [b"new", b"old", b"other"]
        session.rollback()
        assert world.contents() == [b"old"]
        assert session.get_one(world.Document, key).report.read() == b"old"
    world.check()


@pytest.mark.parametrize("source", [b"abc", io.BytesIO])
def test_after_a_rollback_the_same_object_is_added_again_and_stored_anew(world: World, source: Any) -> None:
    with world.session() as session:
        document = world.Document(report=source(b"abc") if callable(source) else source)
        session.add(document)
        session.flush()
        first = document.report.location
        session.rollback()
        assert document.report.staged
        session.add(document)
        session.commit()
        assert document.report.location != first and document.report.read() == b"abc"
    world.check()


@pytest.mark.parametrize("end", ["close", "reset", "exception", "invalidate", "expunge and close"])
def test_a_session_left_with_work_open_leaves_nothing(world: World, end: str) -> None:
    key = world.add(report=b"old")
    with pytest.raises(ZeroDivisionError) if end == "exception" else nullcontext(), world.session() as session:
        session.get_one(world.Document, key).report = b"new"
        session.flush()
        if end == "exception":
            1 / 0  # noqa: B018
        if end == "expunge and close":
            session.expunge_all()
        getattr(session, end if end in ("reset", "invalidate") else "close")()
    assert world.contents() == [b"old"]
    world.check()


def test_a_transaction_block_commits_or_rolls_back_both(world: World) -> None:
    make = sessionmaker(world.engine)
    with make.begin() as session:
        session.add(world.Document(report=b"kept"))
    with pytest.raises(ZeroDivisionError), make.begin() as session:
        session.add(world.Document(report=b"lost"))
        session.flush()
        1 / 0  # noqa: B018
    assert world.contents() == [b"kept"]
    world.check()


def test_a_scoped_session_is_served_too(world: World) -> None:
    session = scoped_session(sessionmaker(world.engine))
    session.add(world.Document(report=b"abc"))
    session.flush()
    session.remove()
    assert world.objects() == set()


def test_many_flushes_of_one_transaction_free_all_that_came_between(world: World) -> None:
    key = world.add(report=b"0")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        for n in (b"1", b"2", b"3"):
            document.report = n
            session.flush()
        assert len(world.objects()) == 4
        session.commit()
    assert world.contents() == [b"3"]
    world.check()


def test_a_session_goes_on_after_each_end(world: World) -> None:
    with world.session() as session:
        for n in range(6):
            session.add(world.Document(report=str(n).encode()))
            session.flush()
            (session.rollback if n % 2 else session.commit)()
    assert world.contents() == [b"0", b"2", b"4"]
    world.check()


# Savepoints


def test_a_savepoint_that_is_rolled_back_loses_its_files_and_only_its(world: World) -> None:
    key = world.add(report=b"old", cover=b"cover")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"outer"
        session.add(world.Document(report=b"before"))
        savepoint = session.begin_nested()
        document.report, document.cover = b"inner", None
        lost = world.Document(report=b"lost")
        session.add(lost)
        session.flush()
        savepoint.rollback()
        assert lost.report.staged and document.report.read() == b"outer" and document.cover.read() == b"cover"
        session.commit()
    assert world.contents() == [b"before", b"cover", b"outer"]
    world.check()


def test_a_released_savepoint_frees_nothing_until_the_root_commits(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        with session.begin_nested():
            session.get_one(world.Document, key).report = b"new"
        assert world.contents() == [b"new", b"old"]
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_a_released_savepoint_is_undone_with_its_root(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        with session.begin_nested():
            document = session.get_one(world.Document, key)
            document.report = b"new"
            fresh = world.Document(report=b"fresh")
            session.add(fresh)
        session.rollback()
        assert fresh.report.staged and document.report.read() == b"old"
    assert world.contents() == [b"old"]
    world.check()


@pytest.mark.parametrize("inner", ["commit", "rollback"])
@pytest.mark.parametrize("middle", ["commit", "rollback"])
@pytest.mark.parametrize("root", ["commit", "rollback"])
def test_nested_savepoints_end_in_every_combination(world: World, root: str, middle: str, inner: str) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"root"
        one = session.begin_nested()
        document.report = b"middle"
        two = session.begin_nested()
        document.report = b"inner"
        session.flush()
        getattr(two, inner)()
        getattr(one, middle)()
        getattr(session, root)()
    expected = b"old"
    if root == "commit":
        expected = b"root" if middle == "rollback" else b"middle" if inner == "rollback" else b"inner"
    assert world.contents() == [expected]
    world.check()


def test_a_failed_flush_in_a_savepoint_leaves_the_outer_transaction_whole(world: World) -> None:
    world.add(title="taken")
    with world.session() as session:
        session.add(world.Document(title="outer", report=b"outer"))
        session.flush()
        document = world.Document(title="taken", report=b"inner")
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(document)
        assert document.report.staged
        document.title = "free"
        session.add(document)
        session.commit()
    assert world.contents() == [b"inner", b"outer"]
    world.check()


def test_a_session_closed_inside_of_a_savepoint_leaves_nothing(world: World) -> None:
    with world.session() as session:
        session.add(world.Document(report=b"outer"))
        session.begin_nested()
        session.add(world.Document(report=b"inner"))
        session.flush()
    assert world.objects() == set()


# External transactions


Mode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
MODES: list[Mode] = ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_deleted_while_an_outer_transaction_is_open(world: World, mode: Mode) -> None:
    key = world.add(report=b"old")
    with world.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            session.get_one(world.Document, key).report = b"new"
            session.commit()
        if mode == "control_fully":
            assert not outer.is_active  # the session's commit was the outer one's
        else:
            assert world.contents() == [b"new", b"old"]
            outer.rollback()
    named = {world.backend.get(world.manager.file(_at(location)).ref) for location in world.named()}
    assert named == {b"new"} if mode == "control_fully" else {b"old"}
    assert set(world.named()) <= world.objects()


@pytest.mark.parametrize("mode", MODES)
def test_what_an_outer_transaction_commits_is_there(world: World, mode: Mode) -> None:
    with world.engine.connect() as connection:
        outer = connection.begin()
        session = Session(connection, join_transaction_mode=mode)
        session.add(world.Document(report=b"abc"))
        session.flush()
        (session.close if mode == "rollback_only" else session.commit)()
        if outer.is_active:
            outer.commit()
    assert set(world.named()) <= world.objects()


def test_a_session_that_begins_on_an_idle_connection_settles_by_itself(world: World) -> None:
    key = world.add(report=b"old")
    with world.engine.connect() as connection, Session(connection) as session:
        session.get_one(world.Document, key).report = b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


# A lost answer


@contextmanager
def commit_fails(engine: Engine, *, durable: bool) -> Iterator[None]:
    """Let the next COMMIT raise, after or instead of being carried out, as a cut connection does."""
    do_commit: Callable[[Any], None] = engine.dialect.do_commit

    def broken(connection: Any) -> None:
        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        if durable:
            do_commit(connection)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    engine.dialect.do_commit = broken  # type: ignore[method-assign]
    try:
        yield
    finally:
        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]


@pytest.mark.parametrize("durable", [True, False])
def test_a_commit_whose_answer_is_lost_deletes_nothing_and_its_retry_stores_anew(world: World, durable: bool) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"new"
        added = world.Document(report=b"added")
        session.add(added)
        session.flush()
        locations = {document.report.location, added.report.location}
        with commit_fails(world.engine, durable=durable), pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        assert locations < world.objects() and b"old" in world.contents()
        assert set(world.named()) <= world.objects()
        assert added.report.staged
        added.id = None  # where the lost commit was durable, its row is there
        session.add(added)
        session.commit()
        assert added.report.location not in locations
    assert set(world.named()) <= world.objects()


# Failures while settling


def test_a_failing_delete_fails_neither_the_commit_nor_the_session(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key = world.add(report=b"old")

    def refuse(location: str) -> None:
        raise PermissionError("no deletes today")

    world.backend.before_delete = refuse
    with world.session() as session, caplog.at_level(logging.WARNING, "granite_storage"):
        document = session.get_one(world.Document, key)
        document.report = b"new"
        session.commit()
        assert document.report.read() == b"new"
        world.backend.before_delete = lambda location: None
        document.report = b"newer"
        session.commit()
    assert "PermissionError" in caplog.text and "no deletes today" not in caplog.text  # which may hold a secret
    assert world.contents() == [b"newer", b"old"]  # what was left is the sweep's


def test_if_the_database_cannot_be_asked_nothing_is_deleted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"new"
        session.flush()

        def fail(*args: Any) -> None:
            raise OperationalError("SELECT", {}, Exception("gone"))

        after: list[Session] = []

        def break_database(session: Session) -> None:
            after.append(session)
            event.listen(world.engine, "before_cursor_execute", fail)

        event.listen(session, "after_commit", break_database)
        session.commit()
        event.remove(world.engine, "before_cursor_execute", fail)
        assert after and document.report.read() == b"new"
    assert world.contents() == [b"new", b"old"]
    assert "a sweep will" in caplog.text


@pytest.mark.databases("postgresql", "mariadb")
def test_with_autocommit_a_row_that_survives_a_rollback_keeps_its_object(world: World) -> None:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as session:
        session.add(world.Document(report=b"abc"))
        session.flush()
        session.rollback()
    assert len(world.named()) == 1
    world.check()


def test_logs_hold_no_filename(world: World, caplog: pytest.LogCaptureFixture) -> None:
    from granite_storage import Upload

    key = world.add(report=Upload(b"old", filename="secret-name.txt"))

    def refuse(location: str) -> None:
        raise PermissionError("no")

    world.backend.before_delete = refuse
    with world.session() as session, caplog.at_level(logging.DEBUG, "granite_storage"):
        session.delete(session.get_one(world.Document, key))
        session.commit()
    assert caplog.records and "secret-name" not in caplog.text


def test_sessions_without_files_keep_no_ledger(world: World) -> None:
    with world.session() as session:
        session.add(world.Document(title="a"))
        session.execute(text("SELECT 1"))
        session.commit()
        session.add(world.Document(report=b"abc"))
        session.flush()
        assert session.info["granite_storage.ledgers"]
        session.commit()
        assert not session.info["granite_storage.ledgers"]


def _at(location: str) -> dict[str, Any]:
    return {"storage_key": "documents", "backend": "memory", "location": location, "size": 0, "checksum": ""}


# Long transactions


def an_hour_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uploads be stored an hour ago, as their locations tell."""
    monkeypatch.setattr(locations, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 3600 * 10**9))


def begin_long(world: World, session: Session, kind: str) -> Any:
    """A document that was replaced, or added, so long ago that the transaction may not commit any more."""
    key = world.add(report=b"old")
    document = session.get_one(world.Document, key)
    if kind == "upload":
        document.report = b"new"
    elif kind == "savepoint":
        with session.begin_nested():
            document.report = b"new"
    else:
        document.report = world.manager.store("documents", b"new")
    session.flush()
    world.manager.grace = timedelta(microseconds=1)
    return document


@pytest.mark.parametrize("kind", ["upload", "savepoint", "adoption"])
def test_a_transaction_whose_oldest_upload_a_sweep_may_take_does_not_commit(world: World, kind: str) -> None:
    with world.session() as session:
        document = begin_long(world, session, kind)
        with pytest.raises(UploadExpiredError, match=r"0\.8 of the manager's grace.*roll back and try again.*grace="):
            session.commit()
        assert world.contents() == [b"new", b"old"]
        session.rollback()
        assert document.report.read() == b"old"
        world.manager.grace = timedelta(hours=24)
        document.report = b"new"
        session.commit()
        assert document.report.read() == b"new"
    assert world.contents() == ([b"new", b"new"] if kind == "adoption" else [b"new"])  # a stored file is the caller's


@pytest.mark.databases("postgresql", "mariadb")
def test_nor_is_it_prepared(world: World) -> None:
    with world.session(twophase=True) as session:
        begin_long(world, session, "upload")
        with pytest.raises(UploadExpiredError):
            session.prepare()
        session.rollback()
    world.check()
    assert world.contents() == [b"old"]


def test_a_savepoint_of_a_long_transaction_is_released_all_the_same(world: World) -> None:
    with world.session() as session:
        begin_long(world, session, "upload")
        with session.begin_nested():
            session.add(world.Folder())
        with pytest.raises(UploadExpiredError):
            session.commit()
        session.rollback()
    world.check()


def test_an_upload_that_took_too_long_fails_its_own_flush_and_a_retry_stores_it_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.manager.grace = timedelta(hours=1)
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        with monkeypatch.context() as patch:
            an_hour_ago(patch)
            document.report = b"new"
            with pytest.raises(UploadExpiredError, match="more than 2880 seconds ago"):
                session.flush()
        session.rollback()
        assert document.report.read() == b"old"
        assert world.contents() == [b"old"]
        document.report = b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_a_rolled_back_upload_counts_from_when_it_is_stored_again(world: World, monkeypatch: Any) -> None:
    world.manager.grace = timedelta(hours=1)
    with world.session() as session:
        document = world.Document(report=b"new")
        session.add(document)
        with monkeypatch.context() as patch:
            an_hour_ago(patch)
            with pytest.raises(UploadExpiredError):
                session.commit()
        session.rollback()
        session.add(document)
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_an_object_that_old_is_copied_and_not_adopted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.manager.grace = timedelta(hours=1)
    with monkeypatch.context() as patch:
        an_hour_ago(patch)
        stored = world.manager.store("documents", b"stored")
    with world.session() as session:
        document = world.Document(report=stored)
        session.add(document)
        session.commit()
        assert document.report.location != stored.location
        assert document.report.read() == b"stored"
    assert stored.exists()


def test_a_transaction_in_time_commits_whatever_stands_in_its_rows(world: World, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        an_hour_ago(patch)
        key = world.add(report=b"old")
    world.manager.grace = timedelta(hours=1)
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.title = "a title"
        document.scan = document.report
        document.cover = b"cover"
        session.commit()
    world.check()


def test_a_failed_flush_holds_no_object_back_from_a_retry(world: World) -> None:
    stored = world.manager.store("documents", b"stored")
    missing = world.manager.store("documents", b"missing")
    world.manager.delete(missing.ref)
    raised: list[BaseException] = []
    with world.session() as session:
        document, other = world.Document(report=stored), world.Document(report=missing)
        session.add_all([document, other])
        try:
            session.flush()
        except ObjectNotFoundError as error:
            raised.append(error)  # its traceback keeps the frames of the flush
        session.rollback()
        session.add(document)
        session.commit()
        assert document.report.location == stored.location
    assert raised
    world.check()


def test_the_age_of_uploads_is_not_looked_at_again_with_each_flush(world: World, monkeypatch: Any) -> None:
    looks: list[str] = []

    def look(location: str) -> Any:
        looks.append(location)
        return locations.location_time(location)

    monkeypatch.setattr(ledger, "location_time", look)
    with world.session() as session:
        for _ in range(50):
            session.add(world.Document(report=b"x"))
            session.flush()
        assert len(looks) < 300
        session.rollback()
