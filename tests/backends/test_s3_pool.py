from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from granite_storage.backends.s3_pool import UploadPool
from granite_storage.exceptions import StorageError
from granite_storage.intake.stopping import watch_stop


def test_buffers_never_have_more_memory_than_was_set() -> None:
    pool, lock, sizes = UploadPool(100, 10), threading.Lock(), []
    used = 0

    def use(size: int) -> None:
        nonlocal used
        with pool.take(size) as buffer:
            with lock:
                used += len(buffer.content)
                sizes.append(used)
            threading.Event().wait(0.001)
            with lock:
                used -= size

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, [10, 30, 50, 20] * 25))
    assert 50 <= max(sizes) <= 100
    assert used == 0


def test_a_part_larger_than_all_memory_has_it_alone() -> None:
    pool = UploadPool(100, 10)
    first, got = pool.take(10), threading.Event()
    waiting = threading.Thread(target=lambda: (pool.take(500), got.set()))
    waiting.start()
    assert not got.wait(0.05)
    first.release()
    waiting.join(30)
    assert got.is_set()


def test_a_large_part_is_not_overtaken_by_small_ones() -> None:
    pool, order = UploadPool(100, 10), []
    first = pool.take(60)

    def take(size: int) -> None:
        with pool.take(size):
            order.append(size)

    threads = [threading.Thread(target=take, args=(size,)) for size in (90, 20)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        while len(pool._waiting) < number and thread.is_alive():
            threading.Event().wait(0.001)
    first.release()
    for thread in threads:
        thread.join(30)
    assert order == [90, 20]


def test_memory_is_kept_while_uploads_run_and_not_after() -> None:
    pool = UploadPool(100, 10)
    first, second = pool.take(10), pool.take(10)
    content = first.content
    first.release()
    first.release()  # the second time nothing happens
    third = pool.take(10)
    assert third.content is content
    for buffer in (second, third):
        buffer.release()
    assert pool._idle == []


def test_an_upload_that_is_given_up_waits_no_longer() -> None:
    pool, stopping = UploadPool(10, 10), threading.Event()
    taken = pool.take(10)

    def wait() -> None:
        watch_stop(stopping)
        pool.take(10)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        stopping.set()
        with pytest.raises(StorageError, match="given up"):
            waiting.result(30)
    taken.release()
    pool.take(10).release()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on, if there are threads
def test_a_forked_process_starts_with_all_memory_and_threads_of_its_own() -> None:
    pool = UploadPool(10, 10)
    assert pool.submit(lambda: 1).result(30) == 1
    buffer = pool.take(10)
    child = os.fork()
    if not child:
        try:
            with pool.take(10):
                os._exit(0 if pool.submit(lambda: 2).result(30) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    buffer.release()


def test_threads_of_a_forked_process_have_one_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = UploadPool(10, 10)
    renewed, first_is_there, second_is_there = [], threading.Event(), threading.Event()

    class Slow(UploadPool):
        def _renew(self) -> None:
            renewed.append(threading.get_ident())
            first_is_there.set()
            second_is_there.wait(0.2)  # in vain: the second has to wait until this is done
            super()._renew()

    monkeypatch.setattr(pool, "__class__", Slow)
    pool._pid = -1  # as in a child

    def take_second() -> None:
        assert first_is_there.wait(30)
        pool.take(5).release()
        second_is_there.set()

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(lambda: pool.take(5).release()), threads.submit(take_second)]
        for one in both:
            one.result(30)
    assert len(renewed) == 1
