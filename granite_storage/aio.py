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

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["AsyncReader", "WorkerPool", "iterate"]

_T = TypeVar("_T")
_END: Any = object()


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
        waiting = deque(calls)
        if len(waiting) == 1 or self.size == 1 or getattr(self._here, "working", False):
            while waiting:
                waiting.popleft()()
            return
        from concurrent.futures import wait

        errors: list[BaseException] = []

        def work() -> None:  # each thread takes the next call: a future a call costs as much as a part of a small file
            while waiting:
                try:
                    call = waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                try:
                    call()
                except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
                    errors.append(error)
                    waiting.clear()

        futures = [self.submit(work) for _ in range(min(self.size, len(waiting)))]
        try:
            wait(futures)
        except BaseException:  # an interrupt: nothing new begins, what runs is waited for
            waiting.clear()
            wait(futures)
            raise
        if errors:
            raise errors[0]

    async def run(self, call: Callable[[], _T], *, undo: Callable[[_T], object] | None = None) -> _T:
        """Await ``call`` in a thread, with the event loop free.

        :param undo: called in the pool with the result, if the awaiting task was cancelled while ``call`` ran.
        """
        import asyncio  # a program that awaits has it loaded; others need not load it

        future = self.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
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
