"""Threads for blocking work: bounded, safe to fork, safe to cancel."""

from __future__ import annotations

import asyncio
import contextvars
import io
import os
import threading
from collections.abc import Generator

import pytest

from granite_storage.aio import AsyncReader, WorkerPool, iterate
from granite_storage.exceptions import StorageError
from granite_storage.intake.stopping import check_stop


def test_run_all_runs_side_by_side_and_never_more_than_its_size():
    pool, size, together = WorkerPool(3), 3, threading.Barrier(3)
    running, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)
        with lock:
            running -= 1

    pool.run_all([call] * 6)
    assert most == size


def test_run_all_waits_for_all_and_raises_the_first_error():
    pool, finished, started = WorkerPool(2), [], threading.Event()

    def fails() -> None:
        assert started.wait(30)
        raise OSError("disk full")

    def finishes() -> None:
        started.set()
        finished.append(True)

    with pytest.raises(OSError, match="disk full"):
        pool.run_all([fails, finishes])
    assert finished == [True]


def test_run_all_begins_nothing_new_after_an_error():
    pool, begun = WorkerPool(1), []

    def fails() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        pool.run_all([fails, lambda: begun.append(1)])
    assert begun == []


def test_calls_see_the_callers_context():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set by the caller")
    seen: list[str] = []
    WorkerPool(2).run_all([lambda: seen.append(variable.get())] * 2)
    assert seen == ["set by the caller"] * 2


def test_run_keeps_the_event_loop_free():
    pool, gate = WorkerPool(1), threading.Event()

    async def main() -> str:
        waiting = asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
        await asyncio.sleep(0)
        gate.set()  # only a loop that is free gets here
        assert await waiting
        return "done"

    assert asyncio.run(main()) == "done"


def test_a_cancelled_run_is_undone_in_the_pool_once_it_finished():
    pool, started, gate, undone = WorkerPool(1), threading.Event(), threading.Event(), threading.Event()
    told: list[object] = []

    def call() -> str:
        started.set()
        assert gate.wait(30)
        return "result"

    def undo(result: str) -> None:
        told.extend((result, threading.current_thread().name))
        undone.set()

    async def main() -> None:
        task = asyncio.ensure_future(pool.run(call, undo=undo))
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == []
        gate.set()

    asyncio.run(main())
    assert undone.wait(30)
    assert told[0] == "result"
    assert str(told[1]).startswith("granite-storage")


def test_a_cancelled_run_that_had_finished_is_not_undone_on_the_event_loops_thread():
    pool, undone = WorkerPool(1), threading.Event()
    threads: list[int] = []

    def undo(result: str) -> None:
        threads.append(threading.get_ident())
        undone.set()

    async def main() -> None:
        task = asyncio.ensure_future(pool.run(lambda: "result", undo=undo))
        await asyncio.sleep(0)
        pool.submit(lambda: None).result(30)  # the call has finished, and the loop was not told yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert undone.wait(30)
    assert threads != [threading.get_ident()]


def test_a_run_that_was_cancelled_before_it_began_never_begins():
    pool, gate, begun = WorkerPool(1), threading.Event(), []

    async def main() -> None:
        first = asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
        second = asyncio.ensure_future(pool.run(lambda: begun.append(1), undo=begun.append))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        await first

    asyncio.run(main())
    pool.submit(lambda: None).result(30)
    assert begun == []


def test_a_failure_of_a_cancelled_run_is_nothing_to_undo():
    pool, started, gate, undone = WorkerPool(1), threading.Event(), threading.Event(), []

    def call() -> None:
        started.set()
        assert gate.wait(30)
        raise OSError("disk full")

    async def main() -> None:
        task = asyncio.ensure_future(pool.run(call, undo=undone.append))
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()

    asyncio.run(main())
    pool.submit(lambda: None).result(30)
    assert undone == []


def test_an_iterator_that_is_left_is_closed():
    closed = threading.Event()

    def pieces() -> Generator[int]:
        try:
            yield from range(10)
        finally:
            closed.set()

    async def main() -> None:
        kept = pieces()  # so that nobody but iterate() closes it
        items = iterate(WorkerPool(1), lambda: kept)
        async for item in items:
            if item == 3:
                break
        await items.aclose()
        assert closed.is_set()
        closed.clear()
        assert [item async for item in iterate(WorkerPool(1), pieces)] == list(range(10))
        assert closed.is_set()

    asyncio.run(main())


def test_an_iterator_whose_reader_is_cancelled_is_closed():
    closed, started, gate = threading.Event(), threading.Event(), threading.Event()

    def pieces() -> Generator[int]:
        try:
            started.set()
            assert gate.wait(30)
            yield 1
        finally:
            closed.set()

    kept = pieces()  # so that nobody but iterate() closes it

    async def read() -> None:
        async for _ in iterate(WorkerPool(1), lambda: kept):
            raise AssertionError("the reader was cancelled")

    async def main() -> None:
        task = asyncio.ensure_future(read())
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()

    asyncio.run(main())
    assert closed.wait(30)


def test_an_error_of_an_iterator_arrives():
    def pieces() -> Generator[int]:
        yield 1
        raise OSError("the network is gone")

    async def main() -> list[int]:
        seen = []
        with pytest.raises(OSError, match="the network is gone"):
            async for item in iterate(WorkerPool(1), pieces):
                seen.append(item)
        return seen

    assert asyncio.run(main()) == [1]


def test_a_reader_closes_its_stream():
    stream = io.BytesIO(b"content")

    async def main() -> None:
        async with AsyncReader(WorkerPool(1), stream) as reader:
            assert [chunk async for chunk in reader] == [b"content"]

    asyncio.run(main())
    assert stream.closed


def test_a_forked_child_gets_threads_of_its_own():
    pool = WorkerPool(2)
    assert pool.submit(lambda: os.getpid()).result(30) == os.getpid()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # the parent's threads do not exist here
        status = 1
        try:
            os.write(write, str(pool.submit(os.getpid).result(20)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == str(child)
    assert os.waitpid(child, 0)[1] == 0


def test_a_cancelled_arun_all_waits_for_what_runs_begins_nothing_more_and_tells_it_to_stop():
    pool, started, gate = WorkerPool(1), threading.Event(), threading.Event()
    begun: list[int] = []
    told: list[BaseException] = []

    def call() -> None:
        begun.append(1)
        started.set()
        assert gate.wait(30)
        try:
            check_stop()
        except StorageError as error:
            told.append(error)

    async def main() -> None:
        task = asyncio.ensure_future(pool.arun_all([call, call]))
        while not started.is_set():
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert begun == [1] and len(told) == 1
    check_stop()  # whoever was not told goes on


def test_a_cancelled_arun_all_does_not_wait_for_the_pools_other_work():
    pool, gate = WorkerPool(1), threading.Event()
    begun: list[int] = []

    async def main() -> None:
        other = pool.submit(lambda: gate.wait(30))
        task = asyncio.ensure_future(pool.arun_all([lambda: begun.append(1)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not other.done()
        gate.set()

    asyncio.run(main())
    assert begun == []


def test_arun_all_raises_the_first_error_once_none_is_running():
    pool, finished, started = WorkerPool(2), [], threading.Event()

    def fails() -> None:
        assert started.wait(30)
        raise OSError("disk full")

    def finishes() -> None:
        started.set()
        finished.append(True)

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(pool.arun_all([fails, finishes]))
    assert finished == [True]
