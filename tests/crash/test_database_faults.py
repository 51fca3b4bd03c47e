"""The database fails under a session: a COMMIT or its answer is lost, connections end, the server goes away.

Nothing is lost and nothing dangles, the same session and engine go on, and one sweep leaves what rows reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.crash.operations import OPERATIONS, Doing
from tests.crash.proxies import Loss, Proxy, proxy
from tests.crash.worlds import OLD, CrashWorld, State, content
from tests.databases import Database

pytestmark = pytest.mark.databases("postgresql", "mariadb")  # SQLite is no server: there is nothing to cut

_EVERY_OPERATION = pytest.mark.parametrize("operation", list(OPERATIONS))


@pytest.fixture
def network(tables: Database) -> Iterator[Proxy]:
    """The network between the far world and its database."""
    assert tables.url.host is not None and tables.url.port is not None
    with proxy(tables.url.host, tables.url.port) as made:
        yield made


@pytest.fixture
def far(world: CrashWorld, storage: str, network: Proxy) -> Iterator[CrashWorld]:
    """The world as seen through the network; ``world`` itself sees the database directly."""
    url = world.engine.url.set(host="127.0.0.1", port=network.port)
    made = CrashWorld(url.render_as_string(hide_password=False), storage)
    yield made
    made.close()


def _do(far: CrashWorld, session: Session, operation: str) -> None:
    OPERATIONS[operation].run(Doing(far, session, lambda step: None))
    session.flush()


def _goes_on(far: CrashWorld, world: CrashWorld, session: Session, state: State) -> None:
    """The same session and engine work, and after one sweep exactly what rows reference is there."""
    world.check_survivors(state)
    session.add(far.Document(title="later", report=content("c", "new")))
    session.commit()
    session.close()
    expected = {**state, "later": content("c", "new")}
    world.check_survivors(expected)
    report = world.sweep()
    assert report.complete
    world.check_swept(expected)


@_EVERY_OPERATION
def test_a_commit_whose_answer_is_lost_is_not_taken_for_a_rollback(
    world: CrashWorld, far: CrashWorld, network: Proxy, operation: str
) -> None:
    with far.session() as session:
        _do(far, session, operation)
        network.loss = Loss.ANSWER
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        assert network.lost == 1
        _goes_on(far, world, session, OPERATIONS[operation].new())


@_EVERY_OPERATION
def test_a_commit_that_never_arrives_leaves_the_old_state(
    world: CrashWorld, far: CrashWorld, network: Proxy, operation: str
) -> None:
    with far.session() as session:
        _do(far, session, operation)
        network.loss = Loss.COMMIT
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        assert network.lost == 1
        world.wait_until_alone()
        _goes_on(far, world, session, OLD)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@_EVERY_OPERATION
def test_a_database_that_is_gone_between_flush_and_commit_leaves_the_old_state(
    world: CrashWorld, far: CrashWorld, network: Proxy, operation: str, end: str
) -> None:
    with far.session() as session:
        _do(far, session, operation)
        network.stop()
        with pytest.raises(DBAPIError):  # SQLAlchemy's own rollback tells, too, that there is nobody to roll back
            getattr(session, end)()
        session.rollback()
        network.start()
        world.wait_until_alone()
        _goes_on(far, world, session, OLD)


@pytest.mark.parametrize("operation", ["insert", "replace", "bulk delete"])
def test_a_connection_that_the_server_ends_between_flush_and_commit_leaves_the_old_state(
    world: CrashWorld, operation: str
) -> None:
    with world.session() as session:
        _do(world, session, operation)
        _end_connection(world, session.connection())
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        world.wait_until_alone()
        _goes_on(world, world, session, OLD)


def test_the_same_upload_is_stored_again_after_a_commit_that_was_lost(
    world: CrashWorld, far: CrashWorld, network: Proxy
) -> None:
    with far.session() as session:
        document = far.Document(title="again", report=content("d", "new"))
        session.add(document)
        session.flush()
        first = document.report.location
        network.loss = Loss.COMMIT
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        session.add(document)
        session.commit()
        assert document.report.location != first
        _goes_on(far, world, session, {**OLD, "again": content("d", "new")})


def test_a_lost_answer_that_was_taken_for_a_rollback_would_be_noticed_here(
    world: CrashWorld, far: CrashWorld, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: Any) -> set[Any]:
        return set()

    monkeypatch.setattr("granite_storage.orm.ledger.Ledger.in_doubt", False)
    monkeypatch.setattr("granite_storage.orm.discarding.named", nothing)
    with far.session() as session:
        _do(far, session, "replace")
        network.loss = Loss.ANSWER
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
    with pytest.raises(AssertionError, match="missing or partial"):
        world.check_survivors(OPERATIONS["replace"].new())


def _end_connection(world: CrashWorld, connection: Connection) -> None:
    """Let the server end a session's connection, as an administrator or a failover does."""
    postgresql = world.engine.dialect.name == "postgresql"
    number = connection.scalar(text("SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()"))
    with world.engine.connect() as other:
        if postgresql:
            other.execute(text("SELECT pg_terminate_backend(:number, 10000)"), {"number": number})
        else:
            other.execute(text(f"KILL {number}"))
