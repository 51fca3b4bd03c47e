"""Several threads at once, as a flush and a web server use a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import ObjectExistsError
from granite_storage.refs import StoredObjectRef
from granite_storage.testing.suite.sources import content_of, fresh_location, ref_to, then

__all__ = ["ConcurrencySuite"]

_THREADS = 8


class ConcurrencySuite:
    """Checks with threads: none may see another's bytes, and of two puts to one location one wins."""

    def test_threads_put_and_read_their_own(self, backend: Any) -> None:
        def put_and_read(number: int) -> tuple[StoredObjectRef, bool]:
            content = content_of(number * 1000)
            ref = backend.put_bytes(key=fresh_location(), content=content)
            with backend.open(ref) as stream:
                return ref, stream.read() == content == backend.get(ref)

        with ThreadPoolExecutor(_THREADS) as pool:
            results = list(pool.map(put_and_read, range(5 * _THREADS)))
        assert all(same for _, same in results), "a thread read bytes that it had not put"
        assert sorted(backend.iter_locations()) == sorted(ref.location for ref, _ in results), "objects were lost"

    def test_threads_list_and_delete_while_others_put(self, backend: Any) -> None:
        def churn(number: int) -> None:
            ref = backend.put_bytes(key=fresh_location(), content=content_of(number))
            list(backend.iter_locations("suite"))
            backend.delete(ref)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(churn, range(3 * _THREADS)))
        assert list(backend.iter_locations()) == [], "a deleted object came back"

    def test_of_puts_to_one_location_exactly_one_wins(self, backend: Any) -> None:
        if not has_ability(backend, Ability.NO_OVERWRITE):
            return
        for size in (10, 100_000):
            location, gate = fresh_location(), threading.Barrier(4)

            def put(number: int, location: str = location, gate: threading.Barrier = gate, size: int = size) -> bytes:
                content = content_of(size + number)
                try:
                    backend.put_stream(key=location, stream=then(content, _once(gate)))
                except ObjectExistsError:
                    return b""
                return content

            with ThreadPoolExecutor(4) as pool:
                winners = [content for content in pool.map(put, range(4)) if content]
            assert len(winners) == 1, f"of 4 puts to one location {len(winners)} won"
            assert backend.get(ref_to(backend, location)) == winners[0], "the object is not the winner's"


def _once(gate: threading.Barrier) -> Callable[[], None]:
    """Wait until all have read everything, before any of them may publish."""
    waited: list[threading.Barrier] = []

    def wait() -> None:
        if not waited:
            waited.append(gate)
            with suppress(threading.BrokenBarrierError):  # a backend may let puts in one by one
                gate.wait(5)

    return wait
