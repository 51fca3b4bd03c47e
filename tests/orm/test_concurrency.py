from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from granite_storage import Upload
from granite_storage.exceptions import UploadConsumedError
from granite_storage.ownership import is_mark
from tests.databases import Database
from tests.orm.leftovers import check_clean, check_nothing_lost, contents, finish_outbox
from tests.orm.worlds import OneShot, World, in_thread

LEVELS = {
    "sqlite": ("READ UNCOMMITTED", "SERIALIZABLE"),
    "postgresql": ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
    "mariadb": ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
}


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.add(report=b"first")  # and the prefix is marked
    return world


Act = Callable[[World, Session, Any], None]


def replace_by(content: bytes) -> Act:
    upload = Upload(content)  # the same one in every attempt

    def replace(world: World, session: Session, key: int) -> None:
        session.get_one(world.Document, key).report = upload

    return replace


def clear(world: World, session: Session, key: int) -> None:
    session.get_one(world.Document, key).report = None


def delete(world: World, session: Session, key: int) -> None:
    session.delete(session.get_one(world.Document, key))


def contend(world: World, engine: Engine, key: int, *acts: Act) -> list[int]:
    """Each act in a thread and a transaction of its own, tried until it commits; all have read the row before any
    writes. Gives the order in which they committed."""
    read = threading.Barrier(len(acts))
    order: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        with Session(engine) as session:
            for attempt in range(100):
                try:
                    with session.no_autoflush:
                        acts[number](world, session, key)
                    if attempt == 0:
                        read.wait(30)
                    session.commit()
                except (DBAPIError, StaleDataError):
                    session.rollback()
                except NoResultFound:
                    return
                else:
                    with lock:
                        order.append(number)
                    return
            raise AssertionError("a hundred attempts failed")

    for join in [in_thread(lambda number=number: work(number)) for number in range(len(acts))]:  # type: ignore[misc]
        join()
    return order


def levels(database: Database, world: World) -> Iterator[Engine]:
    """The world's engine in each isolation level that its database offers."""
    for level in LEVELS[database.name]:
        yield world.engine.execution_options(isolation_level=level)


def test_of_two_that_replace_one_field_the_last_ones_object_stays(world: World, database: Database) -> None:
    for engine in levels(database, world):
        key = world.add(report=b"old")
        assert sorted(contend(world, engine, key, replace_by(b"one"), replace_by(b"two"))) == [0, 1]
        finish_outbox(world)
        check_clean(world)
        with world.session() as session:
            document = session.get_one(world.Document, key)
            assert contents(world) == sorted([b"first", document.report.read()])
            assert document.report.read() in (b"one", b"two")
            session.delete(document)
            session.commit()


@pytest.mark.parametrize("other", [replace_by(b"new"), clear, delete], ids=["replace", "clear", "delete"])
@pytest.mark.filterwarnings("ignore:DELETE statement on table")  # another was first
def test_of_one_that_deletes_and_one_that_changes_nothing_stays(world: World, database: Database, other: Act) -> None:
    for engine in levels(database, world):
        key = world.add(report=b"old")
        contend(world, engine, key, delete, other)
        finish_outbox(world)
        assert contents(world) == [b"first"]
        check_clean(world)


def test_a_move_and_a_replacement_of_the_same_object_agree(world: World, database: Database) -> None:
    def move(world: World, session: Session, key: int) -> None:
        document = session.get_one(world.Document, key)
        if document.report is not None:
            document.scan, document.report = document.report, None

    for engine in levels(database, world):
        key = world.add(report=b"old")
        contend(world, engine, key, move, replace_by(b"new"))
        finish_outbox(world)
        check_clean(world)
        with world.session() as session:
            session.delete(session.get_one(world.Document, key))
            session.commit()


# A serialization failure, and another attempt


@contextmanager
def loser(world: World, database: Database, key: int) -> Iterator[Session]:
    """A session that has read a row, and whose change of it is refused: another transaction was first."""
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
    if database.name == "sqlite":
        options = {"connect_args": {"timeout": 0}}
    engine = database.engine(**options)
    if database.name == "mariadb":
        event.listen(engine, "connect", _snapshot_isolation)
    try:
        with Session(engine) as winner, Session(engine) as session:
            session.get_one(world.Document, key)
            winner.get_one(world.Document, key).report = b"winner"
            if database.name == "sqlite":
                winner.flush()
                event.listen(session, "after_rollback", lambda session: winner.commit(), once=True)
            else:
                winner.commit()
            yield session
    finally:
        engine.dispose()


def _snapshot_isolation(connection: Any, record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_snapshot_isolation = ON")


def refused(database: Database, error: DBAPIError) -> bool:
    """Whether an error is the one that asks for another attempt: 40001, 1020, SQLITE_BUSY."""
    if database.name == "postgresql":
        return getattr(error.orig, "sqlstate", None) == "40001"
    if database.name == "mariadb":
        return bool(error.orig.args[0] == 1020)  # type: ignore[union-attr]
    return "locked" in str(error)


@pytest.mark.parametrize("source", ["bytes", "buffered"])
def test_after_a_serialization_failure_the_same_upload_is_stored_again(
    world: World, database: Database, source: str
) -> None:
    key = world.add(report=b"old")
    upload = Upload(b"loser") if source == "bytes" else Upload(OneShot(b"loser"))
    upload.buffer()
    with loser(world, database, key) as session:
        session.get_one(world.Document, key).report = upload
        added = world.Document(scan=b"added")
        session.add(added)
        with pytest.raises(DBAPIError) as raised:
            session.commit()
        assert refused(database, raised.value)
        session.rollback()
        assert contents(world) == [b"first", b"winner"] or database.name == "sqlite"
        check_nothing_lost(world)
        session.get_one(world.Document, key).report = upload
        session.add(added)
        session.commit()
    finish_outbox(world)
    assert contents(world) == [b"added", b"first", b"loser"]
    check_clean(world)


def test_after_a_serialization_failure_an_upload_that_cannot_be_read_again_says_so(
    world: World, database: Database
) -> None:
    key = world.add(report=b"old")
    upload = Upload(OneShot(b"loser"))
    with loser(world, database, key) as session:
        session.get_one(world.Document, key).report = upload
        with pytest.raises(DBAPIError) as raised:
            session.commit()
        assert refused(database, raised.value)
        session.rollback()
        session.get_one(world.Document, key).report = upload
        with pytest.raises(UploadConsumedError, match=r"call buffer\(\) on the Upload before the first read"):
            session.commit()
        session.rollback()
        session.get_one(world.Document, key).report = b"another"
        session.commit()
    finish_outbox(world)
    assert contents(world) == [b"another", b"first"]
    check_clean(world)


@pytest.mark.databases("postgresql", "mariadb")
def test_after_a_deadlock_the_same_upload_is_stored_again(world: World) -> None:
    keys = [world.add(report=b"old"), world.add(report=b"old")]
    met = threading.Barrier(2)
    deadlocks: list[DBAPIError] = []

    def work(first: int, second: int, name: bytes) -> None:
        uploads = {first: Upload(name + b" first"), second: Upload(name + b" second")}
        with world.session() as session:
            for attempt in range(10):
                try:
                    for key in (first, second):
                        session.get_one(world.Document, key).report = uploads[key]
                        session.flush()
                        if attempt == 0 and key == first:
                            met.wait(30)
                    session.commit()
                except DBAPIError as error:
                    session.rollback()
                    deadlocks.append(error)
                else:
                    return
            raise AssertionError("ten attempts failed")

    joins = [in_thread(lambda: work(*keys, b"a")), in_thread(lambda: work(*reversed(keys), b"b"))]
    for join in joins:
        join()
    codes = {getattr(error.orig, "sqlstate", None) or error.orig.args[0] for error in deadlocks}  # type: ignore[union-attr]
    assert codes and codes <= {"40P01", 1213, "40001"}
    finish_outbox(world)
    assert len(contents(world)) == 3
    check_clean(world)


# What waits for whom


@pytest.mark.parametrize("own", ["engine", "connection"])
def test_others_commit_while_a_transactions_end_deletes_objects(world: World, database: Database, own: str) -> None:
    """In MariaDB's REPEATABLE READ an outbox that is claimed by a scan keeps every other session from writing it."""
    for engine in levels(database, world):
        keys = [world.add(report=b"slow"), world.add(report=b"old")]
        (slow,) = (one for one in world.objects() if not is_mark(one) and world.backend.get(_at(one)) == b"slow")
        reached, opened = threading.Event(), threading.Event()

        def gate(location: str, slow: str = slow, reached: Any = reached, opened: Any = opened) -> None:
            if location == slow:
                reached.set()
                assert opened.wait(30), "the other session waits for ours"

        world.backend.before_delete = gate

        def replace(engine: Engine = engine, key: int = keys[0]) -> None:
            with engine.connect() as connection, Session(engine if own == "engine" else connection) as session:
                session.get_one(world.Document, key).report = b"new"
                session.commit()

        join = in_thread(replace)
        assert reached.wait(30)
        with Session(engine) as session:
            session.get_one(world.Document, keys[1]).report = b"meanwhile"
            session.add(world.Document(scan=b"scan"))
            session.commit()
            assert not opened.is_set()
            for document in session.query(world.Document).where(world.Document.id != keys[0]):
                if document.report is None or document.report.read() != b"first":
                    session.delete(document)
            session.commit()
        opened.set()
        join()
        finish_outbox(world)
        with world.session() as session:
            assert session.get_one(world.Document, keys[0]).report.read() == b"new"
            session.delete(session.get_one(world.Document, keys[0]))
            session.commit()
        assert contents(world) == [b"first"]
        check_clean(world)


def test_nobody_waits_for_an_upload(world: World, database: Database) -> None:
    """No lock is held while bytes travel: uploads come first."""
    key = world.add(report=b"old")
    reached, opened = threading.Event(), threading.Event()

    def gate(location: str) -> None:
        world.backend.before_put = lambda location: None
        reached.set()
        assert opened.wait(30), "the other session waits for our upload"

    world.backend.before_put = gate

    def replace() -> None:
        with world.session() as session:
            document = world.Document(id=key, report=b"slow", title="slow")
            session.merge(document)
            session.commit()

    with world.session() as before:
        before.get_one(world.Document, key)
    join = in_thread(replace)
    assert reached.wait(30)
    if database.name != "sqlite":  # where whoever has read keeps others from committing
        with world.session() as session:
            session.get_one(world.Document, key).report = b"quick"
            session.commit()
    opened.set()
    join()
    finish_outbox(world)
    assert contents(world) == [b"first", b"slow"]
    check_clean(world)


def _at(location: str) -> Any:
    from granite_storage import StoredObjectRef

    return StoredObjectRef("", "memory", location, 0, "")
