from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from sqlalchemy import AsyncAdaptedQueuePool, Engine, delete, event, insert, select, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.util.concurrency import await_only

from granite_storage import StoredFile, Upload
from granite_storage.exceptions import ContentTooLargeError
from granite_storage.ownership import is_mark
from tests.databases import Database
from tests.orm.leftovers import check_clean, check_nothing_lost, contents, finish_outbox, freed, stored
from tests.orm.worlds import OneShot, World

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


Main = Callable[[AsyncEngine], Awaitable[Any]]


@pytest.fixture
def run(database: Database) -> Callable[[Main], Any]:
    """Runs a coroutine function with an engine on the test's database, through its asyncio driver."""

    def run(main: Main) -> Any:
        async def whole() -> Any:
            engine = _async_engine(database)
            try:
                return await main(engine)
            finally:
                await engine.dispose()

        return asyncio.run(whole())

    return run


def _async_engine(database: Database) -> AsyncEngine:
    if database.name == "postgresql":
        return create_async_engine(database.url_through("asyncpg"))
    engine = create_async_engine(
        database.url_through("aiosqlite"),
        connect_args={"isolation_level": None, "timeout": 30},
        poolclass=AsyncAdaptedQueuePool,
    )
    # the driver begins nothing by itself, so that savepoints are real
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


class Gate:
    """Where a thread waits until the event loop, which must be free for it, opens it."""

    def __init__(self, parties: int = 1) -> None:
        self._parties = parties
        self._waiting = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, location: str = "") -> None:
        if not is_mark(location):
            self._waiting.release()
            assert self._open.wait(30), "the event loop stood still"

    async def reached(self) -> None:
        """Some threads wait here, and the event loop goes on."""
        for _ in range(self._parties):
            while not self._waiting.acquire(blocking=False):
                await asyncio.sleep(0)

    def open(self) -> None:
        self._open.set()


async def cancelled(task: asyncio.Task[Any]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


# The loop stays free


@pytest.mark.parametrize("files", [1, 3])
def test_other_tasks_go_on_while_slow_uploads_are_flushed(world: World, run: Any, files: int) -> None:
    world.backend.before_put = gate = Gate(files)

    async def main(engine: AsyncEngine) -> None:
        async def store() -> None:
            async with AsyncSession(engine) as session:
                session.add_all(world.Document(report=b"%d" % n) for n in range(files))
                await session.commit()

        task = asyncio.create_task(store())
        await gate.reached()
        assert not task.done()
        gate.open()
        await task

    run(main)
    assert len(contents(world)) == files
    check_clean(world)


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_other_tasks_go_on_while_slow_deletes_follow_the_end(world: World, run: Any, end: str) -> None:
    key = world.add(report=b"old")
    world.backend.before_delete = gate = Gate()

    async def main(engine: AsyncEngine) -> None:
        async def work() -> None:
            async with AsyncSession(engine) as session:
                document = await session.get_one(world.Document, key)
                document.report = b"new"
                await session.flush()
                await getattr(session, end)()

        task = asyncio.create_task(work())
        await gate.reached()
        assert len(stored(world)) == 2 and not task.done()
        gate.open()
        await task

    run(main)
    assert contents(world) == [b"new" if end == "commit" else b"old"]
    check_clean(world)


def test_no_storage_call_is_made_on_the_loops_thread(world: World, run: Any) -> None:
    key = world.add(report=b"old", scan=b"moves")
    other = world.add(cover=b"copied")
    loose = world.manager.store("documents", b"loose")
    called: dict[str, set[int]] = {}

    for name in ("put_stream", "copy", "delete", "delete_many", "exists", "get", "open"):
        method = getattr(world.backend, name)

        def noted(*args: Any, name: str = name, method: Any = method, **arguments: Any) -> Any:
            called.setdefault(name, set()).add(threading.get_ident())
            return method(*args, **arguments)

        setattr(world.backend, name, noted)
    world.manager.ownership._seen.clear()  # as in a process that has just begun

    async def main(engine: AsyncEngine) -> int:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            document = await session.get_one(world.Document, key)
            source = await session.get_one(world.Document, other)
            document.report, document.scan, document.cover = document.scan, None, source.cover
            session.add(world.Document(report=loose, scan=b"fresh"))
            await session.commit()
            async with session.begin_nested() as savepoint:
                session.add(world.Document(report=b"lost"))
                await session.flush()
                await savepoint.rollback()
            await session.rollback()
        return threading.get_ident()

    loop_thread = run(main)
    assert {"put_stream", "copy", "exists", "delete_many"} <= called.keys()
    assert [name for name, threads in called.items() if loop_thread in threads] == []
    assert contents(world) == [b"copied", b"copied", b"fresh", b"loose", b"moves"]
    check_clean(world)


# The same behaviour as in a Session


def test_replace_clear_delete_and_rollback_behave_as_in_a_session(world: World, run: Any) -> None:
    keys = [world.add(report=b"old %d" % n, cover=b"cover %d" % n) for n in range(3)]

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            one, two, three = [await session.get_one(world.Document, key) for key in keys]
            one.report, two.report = b"new", None
            await session.delete(three)
            await session.flush()
            assert len(stored(world)) == 7
            await session.rollback()
            assert len(stored(world)) == 6 and freed(world) == set()
            one, two, three = [await session.get_one(world.Document, key) for key in keys]
            one.report, two.report = b"new", None
            await session.delete(three)
            await session.commit()

    run(main)
    assert contents(world) == [b"cover 0", b"cover 1", b"new"]
    check_clean(world)


def test_savepoints_behave_as_in_a_session(world: World, run: Any) -> None:
    key = world.add(report=b"old")

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            document = await session.get_one(world.Document, key)
            document.report = b"outer"
            savepoint = await session.begin_nested()
            document.report = b"inner"
            lost = world.Document(report=b"lost")
            session.add(lost)
            await session.flush()
            await savepoint.rollback()
            assert lost.report.staged
            async with session.begin_nested():
                session.add(world.Document(report=b"released"))
            await session.commit()

    run(main)
    assert contents(world) == [b"outer", b"released"]
    check_clean(world)


def test_a_rejected_upload_fails_the_flush_and_the_session_goes_on(world: World, run: Any) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            good, bad = world.Document(report=b"good"), world.Document(cover=b"x" * 2000)
            session.add_all([good, bad])
            with pytest.raises(ContentTooLargeError):
                await session.commit()
            await session.rollback()
            session.add(good)
            await session.commit()

    run(main)
    assert contents(world) == [b"good"]
    check_clean(world)


def test_an_autoflush_stores_too(world: World, run: Any) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            session.add(world.Document(report=b"abc"))
            (found,) = await session.scalars(select(world.Document).where(world.Document.report.size == 3))
            assert await found.report.aread() == b"abc"
            await session.commit()

    run(main)
    check_clean(world)


# Many


def test_a_hundred_commits_of_one_session_keep_a_hundred_files(world: World, run: Any) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            for n in range(100):
                session.add(world.Document(report=b"%03d" % n))
                await session.commit()

    run(main)
    assert contents(world) == [b"%03d" % n for n in range(100)]
    check_clean(world)


def test_twenty_sessions_side_by_side_keep_what_they_commit(world: World, run: Any) -> None:
    keys = [world.add(report=b"old %02d" % n) for n in range(20)]

    async def main(engine: AsyncEngine) -> None:
        async def work(n: int) -> None:
            async with AsyncSession(engine) as session:
                document = await session.get_one(world.Document, keys[n])
                document.report = b"new %02d" % n
                session.add(world.Document(report=b"added %02d" % n))
                await (session.commit if n % 4 else session.rollback)()

        await asyncio.gather(*(work(n) for n in range(20)))

    run(main)
    kept, lost = [n for n in range(20) if n % 4], [n for n in range(20) if not n % 4]
    assert contents(world) == sorted(
        [b"new %02d" % n for n in kept] + [b"added %02d" % n for n in kept] + [b"old %02d" % n for n in lost]
    )
    check_clean(world)


def test_an_async_scoped_session_is_served_too(world: World, run: Any) -> None:
    async def main(engine: AsyncEngine) -> None:
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)

        async def work(n: int) -> None:
            scoped.add(world.Document(report=b"%d" % n))
            await (scoped.commit() if n % 2 else scoped.flush())
            await scoped.remove()

        await asyncio.gather(*(asyncio.create_task(work(n)) for n in range(6)))

    run(main)
    assert contents(world) == [b"1", b"3", b"5"]
    check_clean(world)


# Cancelled


async def _goes_on(world: World, engine: AsyncEngine, *, pool: bool = True) -> None:
    """The engine works, and (``pool``) none of its connections is lost."""
    async with AsyncSession(engine) as session:
        session.add(world.Document(report=b"after"))
        await session.commit()
    assert not pool or engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("files", [1, 2, 9])
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_task_cancelled_during_uploads_leaves_nothing(world: World, run: Any, files: int, again: bool) -> None:
    world.backend.before_put = gate = Gate(min(files, 4))
    documents = [world.Document(report=b"%d" % n, title=str(n)) for n in range(files)]

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:

            async def store() -> None:
                session.add_all(documents)
                await session.commit()

            task = asyncio.create_task(store())
            await gate.reached()
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
                if again:
                    task.cancel()
            assert not task.done()  # a thread is at work yet, and may read a source that is not ours after this
            gate.open()
            await cancelled(task)
            assert stored(world) == set()
            await session.rollback()
            assert all(one.report.staged for one in documents)
            session.add_all(documents)  # and the same session stores the same uploads
            await session.commit()
        await _goes_on(world, engine)

    run(main)
    assert contents(world) == [*(b"%d" % n for n in range(files)), b"after"]
    check_clean(world)


def test_a_cancelled_upload_reads_no_further(world: World, run: Any) -> None:
    gate, reads = Gate(), 0

    class Slow(OneShot):
        def read(self, size: int = -1) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 2:
                gate()
            return b"x" * 1000

    async def main(engine: AsyncEngine) -> None:
        async def store() -> None:
            async with AsyncSession(engine) as session:
                session.add(world.Document(report=Slow(b"")))  # it has no end
                await session.commit()

        task = asyncio.create_task(store())
        await gate.reached()
        task.cancel()
        await asyncio.sleep(0)
        gate.open()
        await cancelled(task)

    run(main)
    assert reads <= 3
    assert stored(world) == set()


def test_a_timeout_during_an_upload_is_a_timeout(world: World, run: Any) -> None:
    world.backend.before_put = gate = Gate()

    async def main(engine: AsyncEngine) -> None:
        async def store() -> None:
            async with asyncio.timeout(None) as limit, AsyncSession(engine) as session:
                session.add(world.Document(report=b"abc"))
                limits.append(limit)
                await session.commit()

        limits: list[asyncio.Timeout] = []
        task = asyncio.create_task(store())
        await gate.reached()
        limits[0].reschedule(0)
        while not limits[0].expired():
            await asyncio.sleep(0)
        gate.open()
        with pytest.raises(TimeoutError):
            await task
        await _goes_on(world, engine)

    run(main)
    assert contents(world) == [b"after"]
    check_clean(world)


def test_an_anyio_scope_that_is_cancelled_again_and_again_ends(world: World, run: Any) -> None:
    key = world.add(report=b"old")
    world.backend.before_put = gate = Gate(2)

    async def main(engine: AsyncEngine) -> None:
        async def store() -> None:
            async with AsyncSession(engine) as session:
                document = await session.get_one(world.Document, key)
                document.report, document.scan = b"new", b"scan"
                await session.commit()

        async with anyio.create_task_group() as group:
            group.start_soon(store)
            await gate.reached()
            group.cancel_scope.cancel()
            asyncio.get_running_loop().call_soon(gate.open)
        world.backend.before_put = lambda location: None
        while engine.pool.checkedout():  # type: ignore[attr-defined] - AsyncSession closes in a task of its own
            await asyncio.sleep(0)
        await _goes_on(world, engine)

    run(main)
    check_nothing_lost(world)
    assert b"old" in contents(world) and b"after" in contents(world)


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("durable", [False, True], ids=["before it is sent", "while its answer is awaited"])
def test_a_task_cancelled_during_the_commit_loses_nothing(world: World, run: Any, durable: bool, again: bool) -> None:
    key = world.add(report=b"old")

    async def main(engine: AsyncEngine) -> None:
        reached, never = asyncio.Event(), asyncio.Event()
        dialect = engine.sync_engine.dialect
        do_commit = dialect.do_commit

        def stuck(connection: Any) -> None:
            dialect.do_commit = do_commit  # type: ignore[method-assign]
            if durable:
                do_commit(connection)
            reached.set()
            await_only(never.wait())

        async with AsyncSession(engine, expire_on_commit=False) as session:
            document = await session.get_one(world.Document, key)
            document.report = b"new"
            added = world.Document(report=b"added")
            session.add(added)
            await session.flush()
            first = {document.report.location, added.report.location}
            dialect.do_commit = stuck  # type: ignore[method-assign]
            task = asyncio.create_task(session.commit())
            await reached.wait()
            task.cancel()
            if again:
                await asyncio.sleep(0)
                task.cancel()
            await cancelled(task)
            await session.rollback()
            check_nothing_lost(world)
            assert first < stored(world)  # nobody knows
            assert added.report.staged
            added.id = None  # it may have a row
            session.add(added)
            await session.commit()
            assert added.report.location not in first
        await _goes_on(world, engine)

    run(main)
    check_nothing_lost(world)
    finish_outbox(world)
    check_nothing_lost(world)
    assert {b"added", b"after", b"new" if durable else b"old"} <= set(contents(world))


def test_a_task_cancelled_before_the_commit_was_sent_leaves_nothing(world: World, run: Any) -> None:
    key = world.add(report=b"old")

    async def main(engine: AsyncEngine) -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        def stuck(session: Any) -> None:
            reached.set()
            await_only(never.wait())

        async def store() -> None:
            async with AsyncSession(engine) as session:
                document = await session.get_one(world.Document, key)
                document.report = b"new"
                await session.flush()
                event.listen(session.sync_session, "before_commit", stuck)
                await session.commit()

        task = asyncio.create_task(store())
        await reached.wait()
        task.cancel()
        await cancelled(task)
        await _goes_on(world, engine)

    run(main)
    assert contents(world) == [b"after", b"old"]
    check_clean(world)


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_task_cancelled_during_the_deletes_sees_it_and_leaves_them_to_the_sweep(
    world: World, run: Any, end: str, again: bool
) -> None:
    key = world.add(report=b"old")
    world.backend.before_delete = gate = Gate()

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            document = await session.get_one(world.Document, key)
            document.report = b"new"
            await session.flush()
            task = asyncio.create_task(getattr(session, end)())
            await gate.reached()
            for _ in range(2 if again else 1):
                task.cancel()
                await asyncio.sleep(0)
            gate.open()
            await cancelled(task)
            check_nothing_lost(world)
            document = await session.get_one(world.Document, key)  # the same session goes on
            document.title = "goes on"
            await session.commit()
        await _goes_on(world, engine)

    run(main)
    check_nothing_lost(world)
    finish_outbox(world)
    assert contents(world) == [b"after", b"new" if end == "commit" else b"old"]
    check_clean(world)


def test_a_task_cancelled_while_the_database_is_asked_leaves_the_work_in_the_outbox(world: World, run: Any) -> None:
    key = world.add(report=b"old")

    async def main(engine: AsyncEngine) -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        def stuck(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            event.remove(engine.sync_engine, "before_cursor_execute", stuck)
            reached.set()
            await_only(never.wait())

        def breaks(session: Any) -> None:
            event.listen(engine.sync_engine, "before_cursor_execute", stuck)

        async with AsyncSession(engine) as session:
            document = await session.get_one(world.Document, key)
            document.report = b"new"
            event.listen(session.sync_session, "after_commit", breaks, once=True)
            task = asyncio.create_task(session.commit())
            await reached.wait()
            task.cancel()
            await cancelled(task)
            assert len(freed(world)) == 1
            document = await session.get_one(world.Document, key)
            assert await document.report.aread() == b"new"
        await _goes_on(world, engine)

    run(main)
    check_nothing_lost(world)
    finish_outbox(world)
    assert contents(world) == [b"after", b"new"]
    check_clean(world)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_task_cancelled_while_the_connection_is_given_back_leaves_a_session_that_goes_on(
    world: World, run: Any, end: str
) -> None:
    """SQLAlchemy then calls no ``after_transaction_end``."""
    key = world.add(report=b"old")

    async def main(engine: AsyncEngine) -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        def stuck(*args: Any) -> None:
            event.remove(engine.sync_engine, "reset", stuck)
            reached.set()
            await_only(never.wait())

        async with AsyncSession(engine, expire_on_commit=False) as session:
            document = await session.get_one(world.Document, key)
            document.report = b"new"
            added = world.Document(report=b"added")
            session.add(added)
            await session.flush()
            event.listen(engine.sync_engine, "reset", stuck)
            task = asyncio.create_task(getattr(session, end)())
            await reached.wait()
            task.cancel()
            await cancelled(task)
            check_nothing_lost(world)
            if end == "rollback":
                session.add(added)
            else:
                document.title = "goes on"
            await session.commit()
            assert session.sync_session.info["granite_storage.ledgers"] == {}
        await _goes_on(world, engine, pool=False)  # SQLAlchemy 2.0 forgets to count it

    run(main)
    check_nothing_lost(world)
    finish_outbox(world)
    check_nothing_lost(world)
    assert {b"added", b"after", b"new" if end == "commit" else b"old"} <= set(contents(world))


def test_a_cancelled_move_and_adoption_lose_nothing(world: World, run: Any) -> None:
    key = world.add(report=b"report", scan=b"scan")
    loose: StoredFile = world.manager.store("documents", b"loose")

    async def main(engine: AsyncEngine) -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        def stuck(*args: Any) -> None:
            reached.set()
            await_only(never.wait())

        async def work() -> None:
            async with AsyncSession(engine) as session:
                document = await session.get_one(world.Document, key)
                document.report, document.scan = document.scan, document.report
                session.add(world.Document(report=loose, cover=Upload(b"cover")))
                event.listen(session.sync_session, "after_flush", stuck)
                await session.commit()

        task = asyncio.create_task(work())
        await reached.wait()
        task.cancel()
        await cancelled(task)
        async with AsyncSession(engine) as session:
            session.add(world.Document(report=loose))
            await session.commit()

    run(main)
    assert contents(world) == [b"loose", b"report", b"scan"]
    check_clean(world)


# Bulk statements


def test_bulk_statements_leave_the_loop_free_and_keep_what_they_commit(world: World, run: Any) -> None:
    world.backend.before_put = gate = Gate(2)
    Document = world.Document

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            rows = [{"title": str(n), "report": b"%d" % n} for n in range(3)]
            task = asyncio.create_task(session.execute(insert(Document), rows))
            await gate.reached()  # the uploads hang, and this task goes on
            gate.open()
            await task
            await session.commit()
            await session.execute(delete(Document).where(Document.title == "0"))
            await session.execute(update(Document).where(Document.title == "1").values(report=None))
            await session.commit()

    run(main)
    assert contents(world) == [b"2"]
    check_clean(world)


def test_a_task_cancelled_during_a_bulk_insert_leaves_nothing(world: World, run: Any) -> None:
    world.backend.before_put = gate = Gate(3)
    statement = insert(world.Document).values([{"title": str(n), "report": b"%d" % n} for n in range(3)])

    async def main(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            task = asyncio.create_task(session.execute(statement))
            await gate.reached()
            task.cancel()
            await asyncio.sleep(0)
            gate.open()
            await cancelled(task)
            await session.rollback()
            assert stored(world) == set()
            await session.execute(statement)
            await session.commit()
        await _goes_on(world, engine)

    run(main)
    assert contents(world) == [b"0", b"1", b"2", b"after"]
    check_clean(world)
