"""Threads for blocking work: a bounded pool that survives a fork, and the bridge from asyncio to it."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

from granite_storage.intake.stopping import watch_stop

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["AsyncReader", "WorkerPool", "iterate"]

_T = TypeVar("_T")
_END: Any = object()


class _Batch:
    """Calls that several threads take, one after the other: a future a call costs as much as a small file's storing."""

    def __init__(self, calls: Iterable[Callable[[], Any]]) -> None:
        self.waiting = deque(calls)
        self.errors: list[BaseException] = []
        self.stopping = threading.Event()

    def work(self) -> None:
        """Make calls until none is left, in a thread of the pool."""
        watch_stop(self.stopping)  # in the copy of the context that this thread works in
        while self.waiting:
            try:
                call = self.waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
                self.errors.append(error)
                self.waiting.clear()

    def stop(self) -> None:
        """Nobody wants the results any more."""
        self.waiting.clear()
        self.stopping.set()

    def raise_first(self) -> None:
        """Raise the first error there was."""
        if self.errors:
            raise self.errors[0]


class WorkerPool:
    """At most ``size`` threads, made when they are first needed, and made anew in a forked child."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._here = threading.local()
        self._pid = 0

    def _running(self) -> ThreadPoolExecutor:
        if self._executor is None or self._pid != os.getpid():
            if self._pid != os.getpid():
                self._lock = threading.Lock()  # the parent's may have been held while it forked
            with self._lock:
                if self._executor is None or self._pid != os.getpid():
                    from concurrent.futures import ThreadPoolExecutor

                    self._executor = ThreadPoolExecutor(self.size, thread_name_prefix="granite-storage")
                    self._pid = os.getpid()
        return self._executor

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """Run ``call`` in a thread, in a copy of the caller's context."""
        return self._running().submit(contextvars.copy_context().run, self._work, call)

    def _work(self, call: Callable[[], _T]) -> _T:
        self._here.working = True
        return call()

    def run_all(self, calls: Iterable[Callable[[], Any]]) -> None:
        """Run calls side by side and wait for all of them; the first error is raised once none is running.

        After an error, calls that have not begun are not begun. Called in one of the pool's own threads it runs them
        right there: threads that wait for threads of the same pool could wait for ever.
        """
        batch = _Batch(calls)
        if len(batch.waiting) == 1 or self.size == 1 or getattr(self._here, "working", False):
            while batch.waiting:
                batch.waiting.popleft()()
            return
        from concurrent.futures import wait

        futures = self._submit(batch)
        try:
            wait(futures)
        except BaseException:  # an interrupt: nothing new begins, what runs is waited for
            batch.stop()
            wait(futures)
            raise
        batch.raise_first()

    async def arun_all(self, calls: Iterable[Callable[[], Any]]) -> None:
        """:meth:`run_all`, awaited, with the event loop free.

        If the task is cancelled, calls that have not begun are not begun, and those that run are told to stop
        (:mod:`.intake.stopping`) and waited for, however often it is cancelled again: what they leave behind is known
        then, and no thread goes on with a source that the application may use again. Then the cancellation is raised.
        """
        import asyncio  # a program that awaits has it loaded; others need not load it

        batch = _Batch(calls)
        futures = self._submit(batch)
        running = {asyncio.wrap_future(future) for future in futures}
        cancelled: asyncio.CancelledError | None = None
        while running:
            try:
                _, running = await asyncio.wait(running)
            except asyncio.CancelledError as error:
                cancelled = error
                batch.stop()
                for future in futures:
                    future.cancel()  # if other work of the pool kept it from beginning
                running = {one for one in running if not one.done()}
        if cancelled is not None:
            raise cancelled
        batch.raise_first()

    def _submit(self, batch: _Batch) -> list[Future[None]]:
        return [self.submit(batch.work) for _ in range(min(self.size, len(batch.waiting)))]

    async def run(self, call: Callable[[], _T], *, undo: Callable[[_T], object] | None = None) -> _T:
        """Await ``call`` in a thread, with the event loop free.

        If the task is cancelled, the call is told to stop (:mod:`.intake.stopping`), and nobody waits for it.

        :param undo: called in the pool with the result, if the awaiting task was cancelled while ``call`` ran.
        """
        import asyncio

        stopping = threading.Event()

        def stoppable() -> _T:
            watch_stop(stopping)  # in the copy of the context that this call has to itself
            return call()

        future = self.submit(stoppable)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            stopping.set()
            if undo is not None and not future.cancel():
                future.add_done_callback(partial(self._undo, undo))
            raise

    def _undo(self, undo: Callable[[_T], object], done: Future[_T]) -> None:
        if done.exception() is None:
            self.submit(partial(undo, done.result()))  # never here: this may be the event loop's own thread


async def iterate(pool: WorkerPool, make: Callable[[], Generator[_T]]) -> AsyncIterator[_T]:
    """The items of a blocking generator, each fetched in a thread of the pool; it is closed when its reader leaves."""
    items = await pool.run(make)
    while (item := await pool.run(lambda: next(items, _END), undo=lambda _: items.close())) is not _END:
        try:
            yield item
        except BaseException:
            await pool.run(items.close)
            raise


class AsyncReader:
    """A binary stream whose methods are awaited; an async context manager and iterator of chunks (bytes)."""

    CHUNK = 256 * 1024

    def __init__(self, pool: WorkerPool, stream: BinaryIO) -> None:
        self._pool = pool
        self._stream = stream

    async def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; all that is left by default."""
        return await self._pool.run(lambda: self._stream.read(size))

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte offset, as :meth:`io.IOBase.seek`."""
        return await self._pool.run(lambda: self._stream.seek(offset, whence))

    async def tell(self) -> int:
        """The position in bytes."""
        return await self._pool.run(self._stream.tell)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._pool.run(self._stream.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read(self.CHUNK):
            yield chunk
