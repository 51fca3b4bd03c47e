"""The threads and the memory that all uploads of a backend share.

A part is read into a buffer, and stays in memory until it is sent. However many uploads run at once, their buffers have
``memory`` bytes in all; who needs one when all are taken waits, in the order of asking. Only a part that is larger than
that has a buffer nevertheless, once no other is in use. An upload never keeps a part that is not on its way while it
waits for the next, so that none waits for ever.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from granite_storage.intake.stopping import check_stop

__all__ = ["PartBuffer", "UploadPool"]

_MEMORY = 48 * 1024**2
_SECONDS_BETWEEN_LOOKS = 0.5


class UploadPool:
    """Buffers for parts, and threads that send them; made on first use, and again in a forked process.

    :param memory: bytes; 48 MiB or two parts, whichever is more, by default.
    :param part_size: bytes: as many parts are sent at a time as have room.
    """

    def __init__(self, memory: int | None, part_size: int) -> None:
        self._memory = max(_MEMORY, 2 * part_size) if memory is None else memory
        self._threads = max(1, self._memory // part_size)
        self._renewing = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._executor: ThreadPoolExecutor | None = None
        self._used = 0
        self._waiting: deque[object] = deque()
        self._idle: list[bytearray] = []
        self._pid = os.getpid()  # last: from now on other threads take what is above

    def take(self, size: int) -> PartBuffer:
        """A buffer of ``size`` bytes with anything in it; waits until there is memory for it.

        :raises StorageError: if the upload is given up meanwhile, as its task was cancelled.
        """
        if self._pid != os.getpid():
            with self._renewing:
                if self._pid != os.getpid():
                    self._renew()  # a fork: the parent's threads are not here, and one of them may have held its lock
        with self._changed:
            self._wait_for(size)
            self._used += size
            found = next((number for number, content in enumerate(self._idle) if len(content) == size), None)
            content = None if found is None else self._idle.pop(found)
            if content is None:
                self._idle.clear()  # of another size: it would be memory beside what is used
        try:
            return PartBuffer(self, bytearray(size) if content is None else content)
        except MemoryError:
            self._release(None, size)
            raise

    def _wait_for(self, size: int) -> None:
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or (self._used and self._used + size > self._memory):
                if not self._changed.wait(_SECONDS_BETWEEN_LOOKS):
                    check_stop()
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()

    def _release(self, content: bytearray | None, size: int) -> None:
        with self._changed:
            self._used -= size
            if content is not None and len(content) == size:
                self._idle.append(content)
            if not self._used and not self._waiting:
                self._idle.clear()  # nothing is on its way: keep no memory
            self._changed.notify_all()

    def submit(self, act: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a thread do it."""
        with self._changed:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="granite-storage-upload")
            executor = self._executor
        return executor.submit(act, *args)


class PartBuffer:
    """Memory for a part; as a context manager it is released at the end of the block, if it was not before."""

    __slots__ = ("_pool", "_size", "content")

    def __init__(self, pool: UploadPool, content: bytearray) -> None:
        self._pool: UploadPool | None = pool
        self._size = len(content)
        self.content = content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the memory; nothing happens the second time."""
        pool, self._pool = self._pool, None
        if pool is not None:
            content, self.content = self.content, bytearray()
            pool._release(content, self._size)
