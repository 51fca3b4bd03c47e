from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, TwoPhaseTransaction, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, make_transient

from granite_storage.exceptions import UploadExpiredError
from tests.databases import Database, make_engine
from tests.orm.leftovers import check_clean, check_nothing_lost, contents, finish_outbox, freed, stored
from tests.orm.worlds import World
from tests.postgresql_cluster import postgresql_cluster

pytestmark = pytest.mark.databases("postgresql", "mariadb")


@pytest.fixture(scope="module")
def prepared_postgresql() -> Iterator[Engine]:
    """PostgreSQL prepares no transaction unless the server is started so."""
    with postgresql_cluster(max_prepared_transactions=10) as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def world(database: Database, request: pytest.FixtureRequest) -> Iterator[World]:
    own = database.name == "postgresql"
    engine: Engine = request.getfixturevalue("prepared_postgresql" if own else "engine")
    world = World(engine)
    prepared: list[str] = []

    def note(connection: Connection, xid: str) -> None:
        prepared.append(xid)

    event.listen(engine, "prepare_twophase", note)
    yield world
    event.remove(engine, "prepare_twophase", note)
    recover(world, "rollback", prepared)  # a test that failed may have left its own, which hold locks
    if own:
        world.Base.metadata.drop_all(engine)


def recover(world: World, end: str, xids: Collection[str]) -> list[str]:
    """End those of these transactions that are prepared; MariaDB lists the whole server's. Gives which those were."""
    if world.engine.dialect.name == "postgresql":
        with world.engine.connect() as connection:
            found = [xid for xid in connection.recover_twophase() if xid in xids]
            for xid in found:
                getattr(connection, f"{end}_prepared")(xid, recover=True)
            return found
    # SQLAlchemy 2.0 cannot read the answer to XA RECOVER; and XA COMMIT is refused inside of a transaction
    with world.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        rows = connection.exec_driver_sql("XA RECOVER").all()
        listed = [data.decode() if isinstance(data, bytes) else data for _, _, _, data in rows]
        found = [xid for xid in listed if xid in xids]
        for xid in found:
            connection.exec_driver_sql(f"XA {end.upper()} '{xid}'")
        return found


def two_phase(world: World) -> Session:
    return Session(world.engine, twophase=True)


def test_a_two_phase_commit_settles_as_any_other(world: World) -> None:
    key = world.add(report=b"old")
    with two_phase(world) as session:
        session.get_one(world.Document, key).report = b"new"
        session.add(world.Document(report=b"added"))
        session.commit()
        session.get_one(world.Document, key).report = b"newer"
        session.commit()
    assert contents(world) == [b"added", b"newer"]
    check_clean(world)


def test_nothing_is_deleted_between_prepare_and_commit(world: World) -> None:
    key = world.add(report=b"old")
    with two_phase(world) as session:
        session.get_one(world.Document, key).report = b"new"
        with session.begin_nested():
            session.add(world.Document(report=b"added"))
        session.prepare()
        assert contents(world) == [b"added", b"new", b"old"]
        session.commit()
    assert contents(world) == [b"added", b"new"]
    check_clean(world)


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_a_prepared_transaction_that_is_given_up_loses_nothing_and_can_be_tried_again(world: World, end: str) -> None:
    key = world.add(report=b"old")
    added = world.Document(report=b"added")
    with two_phase(world) as session:
        session.get_one(world.Document, key).report = b"new"
        session.add(added)
        session.prepare()
        getattr(session, end)()
        assert added.report.staged
        check_nothing_lost(world)
        assert b"old" in contents(world) and freed(world) == set()
        if end == "close":  # which leaves the object as one that has a row
            make_transient(added)
            added.id = None
        session.add(added)
        session.commit()
    check_nothing_lost(world)
    assert len(world.named()) == 2


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_before_prepare_it_is_rolled_back_as_any_other(world: World, end: str) -> None:
    key = world.add(report=b"old")
    with two_phase(world) as session:
        session.get_one(world.Document, key).report = b"new"
        session.flush()
        getattr(session, end)()
    assert contents(world) == [b"old"]
    check_clean(world)


@pytest.mark.parametrize("recovered", ["commit", "rollback"])
def test_a_crash_after_prepare_leaves_all_to_whoever_recovers(world: World, recovered: str) -> None:
    key = world.add(report=b"old")
    session = two_phase(world)
    session.get_one(world.Document, key).report = b"new"
    connection = session.connection()
    session.prepare()
    xid = xid_of(connection)
    cut(connection)
    with suppress(DBAPIError):
        session.close()
    assert contents(world) == [b"new", b"old"]
    assert recover(world, recovered, [xid]) == [xid]
    check_nothing_lost(world)
    finish_outbox(world)
    assert contents(world) == ([b"new"] if recovered == "commit" else [b"new", b"old"])  # the new one is the sweep's
    assert len(world.named()) == 1 and freed(world) == set()


@pytest.mark.parametrize("durable", [True, False])
def test_a_lost_answer_to_the_second_phase_deletes_nothing(world: World, durable: bool) -> None:
    key = world.add(report=b"old")
    dialect = world.engine.dialect
    do_commit = dialect.do_commit_twophase

    def broken(connection: Connection, *args: object, **options: object) -> None:
        if durable:
            do_commit(connection, *args, **options)  # type: ignore[arg-type]
        raise ConnectionError("the answer is lost")

    with suppress(DBAPIError), two_phase(world) as session:  # closing the session fails, too
        session.get_one(world.Document, key).report = b"new"
        connection = session.connection()
        xid = xid_of(connection)
        dialect.do_commit_twophase = broken  # type: ignore[method-assign]
        try:
            with pytest.raises(ConnectionError):
                session.commit()
        finally:
            dialect.do_commit_twophase = do_commit  # type: ignore[method-assign]
        if not durable:
            cut(connection)
            connection.invalidate()  # as SQLAlchemy does when a driver's error says so
    assert contents(world) == [b"new", b"old"]
    if not durable:
        assert recover(world, "commit", [xid]) == [xid]
    check_nothing_lost(world)
    finish_outbox(world)
    assert contents(world) == [b"new"]
    check_clean(world)


def test_prepare_refuses_an_upload_that_is_too_old(world: World) -> None:
    key = world.add(report=b"old")
    sent: list[object] = []
    event.listen(world.engine, "prepare_twophase", lambda connection, xid: sent.append(xid))
    with two_phase(world) as session:
        session.get_one(world.Document, key).report = b"new"
        session.flush()
        world.manager.grace = timedelta(microseconds=1)
        with pytest.raises(UploadExpiredError):
            session.prepare()
        session.rollback()
    assert sent == []
    assert contents(world) == [b"old"] and len(stored(world)) == 1


def xid_of(connection: Connection) -> str:
    """The name of a connection's two-phase transaction."""
    transaction = connection.get_transaction()
    assert isinstance(transaction, TwoPhaseTransaction)
    return str(transaction.xid)


def cut(connection: Connection) -> None:
    """Lose the connection to the database, as in a crash."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    (raw._force_close if hasattr(raw, "_force_close") else raw.close)()


def test_a_sweep_leaves_the_uploads_of_a_prepared_transaction_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granite_storage.maintenance.horizon._LOOKS", 2)  # others' sweeps wait longer for this one
    world.add(report=b"kept")
    with two_phase(world) as session:
        session.add(world.Document(report=b"prepared"))
        session.prepare()
        report = world.manager.sweep(world.engine, grace=timedelta(0), force=True)
        assert report.orphans == 0
        session.commit()
    assert contents(world) == [b"kept", b"prepared"]
    check_clean(world)
