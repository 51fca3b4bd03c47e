"""A file in S3, read by an event loop; and by those who leave off half-way."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from granite_storage import StorageManager, StoragePolicy, StoredFile
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.testing.suite.sources import content_of
from tests.backends.wire import Wire

MIB = 2**20
SIZE = 48 * MIB


@pytest.fixture
def make_file(s3_bucket: Any, wired: S3StorageBackend, ref_of: Callable[..., Any]) -> Callable[..., StoredFile]:
    """Gives a file in the test's bucket: of a manager with so many threads, and of so many bytes."""

    def make(workers: int, size: int = SIZE) -> StoredFile:
        content = content_of(size)
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="large", Body=content)
        policies = {"documents": StoragePolicy("documents", "s3")}
        return StorageManager({"s3": wired}, policies, max_workers=workers).file(ref_of("large", content))

    return make


def test_ten_reads_that_wait_for_the_server_leave_the_default_executor_free(
    make_file: Callable[..., StoredFile], wire: Wire
) -> None:
    file = make_file(8, MIB)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        wire.flowing.clear()  # the server's answers are held up
        reads = [asyncio.ensure_future(file.aread()) for _ in range(10)]
        assert await loop.run_in_executor(None, wire.wait_until, lambda: wire.connections == 8)
        assert await asyncio.wait_for(loop.run_in_executor(None, lambda: "at once"), 30) == "at once"
        assert not any(read.done() for read in reads)
        assert wire.connections == 8  # no more than the manager has threads
        wire.flowing.set()
        assert [await read == content_of(MIB) for read in reads] == [True] * 10

    asyncio.run(main())


@pytest.mark.parametrize("workers", [1, 2])
def test_saving_needs_no_second_thread_of_the_managers_pool(
    make_file: Callable[..., StoredFile], tmp_path: Path, workers: int
) -> None:
    file = make_file(workers, 20 * MIB)

    async def main() -> None:
        saves = [file.asave_to(tmp_path / str(number), verify=True) for number in range(3)]
        for path in await asyncio.wait_for(asyncio.gather(*saves), 60):
            assert path.read_bytes() == content_of(20 * MIB)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["asave_to", "aread", "averify"])
def test_a_cancelled_transfer_stops_and_leaves_nothing(
    make_file: Callable[..., StoredFile], wire: Wire, tmp_path: Path, name: str
) -> None:
    file = make_file(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arguments = (tmp_path / "saved",) if name == "asave_to" else ()
        task = asyncio.ensure_future(getattr(file, name)(*arguments))
        assert await loop.run_in_executor(None, wire.wait_until, lambda: wire.received > MIB)
        wire.flowing.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.flowing.set()
        await file.manager.pool.run(lambda: None)  # after what was cancelled, which has the only thread

    asyncio.run(main())
    assert wire.wait_until(lambda: wire.open == 0)
    assert wire.received < SIZE - 8 * MIB
    assert os.listdir(tmp_path) == []


# Connections of those who leave off


async def _leave_aiter_bytes(file: StoredFile) -> None:
    async for chunk in file.aiter_bytes(11 * MIB):
        assert len(chunk) == 11 * MIB
        break


async def _leave_aopen(file: StoredFile) -> None:
    async with file.aopen() as stream:
        for _ in range(11):
            await stream.read(MIB)
        raise ZeroDivisionError


async def _drop_areader(file: StoredFile) -> None:
    opened = file.aopen()
    reader = await opened.__aenter__()
    for _ in range(11):
        await reader.read(MIB)


@pytest.mark.parametrize("leave", [_leave_aiter_bytes, _leave_aopen, _drop_areader])
def test_who_leaves_off_an_async_read_leaves_no_connection(
    make_file: Callable[..., StoredFile], wire: Wire, leave: Callable[[StoredFile], Any]
) -> None:
    file = make_file(2)

    async def main() -> None:
        with suppress(ZeroDivisionError):
            await leave(file)
        gc.collect()
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, wire.wait_until, lambda: wire.open == 0)

    asyncio.run(main())
    assert wire.received < 30 * MIB


def test_who_leaves_off_an_iteration_leaves_no_connection(make_file: Callable[..., StoredFile], wire: Wire) -> None:
    pieces = make_file(1).iter_bytes(MIB)
    for _ in range(11):
        next(pieces)
    assert wire.open == 1
    del pieces
    gc.collect()
    assert wire.wait_until(lambda: wire.open == 0)
    assert wire.received < 30 * MIB
