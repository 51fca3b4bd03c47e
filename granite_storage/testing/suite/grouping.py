"""Groups of puts, where they are declared: durable together, and otherwise puts like any other."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import ObjectExistsError
from granite_storage.refs import StoredObjectRef
from granite_storage.testing.suite.sources import content_of, fresh_location, ref_to, then

__all__ = ["GroupingSuite"]

_THREADS = 8


class GroupingSuite:
    """Checks of ``group``. Whether what was put survives a power failure no test can tell."""

    def test_what_is_put_in_a_group_is_there_at_once(self, backend: Any) -> None:
        if not has_ability(backend, Ability.GROUP):
            return

        def put(number: int) -> str:
            ref = backend.put_bytes(key=fresh_location(), content=content_of(number))
            assert backend.get(ref) == content_of(number), "what was put in a group is not there before the group ends"
            return str(ref.location)

        with backend.group(), ThreadPoolExecutor(_THREADS) as pool:
            calls = [pool.submit(contextvars.copy_context().run, put, number) for number in range(5 * _THREADS)]
            locations = [call.result() for call in calls]
            put(7)
            assert set(locations) < set(backend.iter_locations()), "a group is not listed before it ends"
        assert len(list(backend.iter_locations())) == len(locations) + 1, "objects of a group were lost at its end"
        for number, location in enumerate(locations):
            assert backend.get(ref_to(backend, location)) == content_of(number), "a group changed what was put"

    def test_puts_in_a_group_fail_as_others_do(self, backend: Any) -> None:
        if not has_ability(backend, Ability.GROUP):
            return
        error = OSError("connection lost")

        def fail() -> None:
            raise error

        with backend.group():
            ref = backend.put_bytes(key=fresh_location(), content=b"first")
            with pytest.raises(OSError, match="lost") as raised:
                backend.put_stream(key=fresh_location(), stream=then(content_of(100_000), fail))
            assert raised.value is error, "the stream's own error must come out as it is"
            if has_ability(backend, Ability.NO_OVERWRITE):
                with pytest.raises(ObjectExistsError):
                    backend.put_bytes(key=ref.location, content=b"second")
            backend.delete(backend.put_bytes(key=fresh_location(), content=b"deleted"))
        assert list(backend.iter_locations()) == [ref.location], "a put that failed, or was deleted, came back"
        assert backend.get(ref) == b"first", "an object was replaced"

    def test_an_error_in_a_group_comes_out_as_it_is(self, backend: Any) -> None:
        if not has_ability(backend, Ability.GROUP):
            return
        for error in (ValueError("wrong"), KeyboardInterrupt()):
            stored: list[StoredObjectRef] = []

            def put_and_fail(error: BaseException = error, stored: list[StoredObjectRef] = stored) -> None:
                with backend.group():
                    stored.append(backend.put_bytes(key=fresh_location(), content=b"x"))
                    raise error

            with pytest.raises(type(error)) as raised:
                put_and_fail()
            assert raised.value is error, "an error of the block must come out as it is"
            backend.delete(stored[0])  # it is the caller's, who saw it stored
            assert not backend.exists(stored[0])
        ref = backend.put_bytes(key=fresh_location(), content=b"x")
        assert backend.get(ref) == b"x", "after a group that failed nothing can be put"

    def test_a_put_may_outlast_its_group(self, backend: Any) -> None:
        if not has_ability(backend, Ability.GROUP):
            return
        begun, ended = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert ended.wait(30)

        with ThreadPoolExecutor(1) as pool:
            with backend.group():
                context = contextvars.copy_context()
                stream = then(content_of(10_000), wait)
                late = pool.submit(context.run, lambda: backend.put_stream(key=fresh_location(), stream=stream))
                begun.wait(30)
            ended.set()
            assert backend.get(late.result()) == content_of(10_000), "a put that outlasted its group was lost"
        ref = context.run(lambda: backend.put_bytes(key=fresh_location(), content=b"later"))
        assert backend.get(ref) == b"later", "a put in the context of a group that has ended was lost"
