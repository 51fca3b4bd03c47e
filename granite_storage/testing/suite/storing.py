"""What is put comes back, whole or not at all."""

from __future__ import annotations

import io
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import ContentTooLargeError, ObjectExistsError
from granite_storage.testing.suite.sources import SIZES, content_of, fresh_location, one_shot, ref_to, then

__all__ = ["StoringSuite"]

_ODD = (
    "A",
    "a",
    "a b",
    "a+b",
    "a%20b",
    "a&b=c?d#e",
    "a\\b",
    "'\"",
    "~",
    "\u00e4\u00f6\u00fc",
    "\u65e5\u672c",
    "\U0001f600",
)


class StoringSuite:
    """Checks of ``put_bytes`` and ``put_stream``."""

    def test_bytes_come_back_as_they_were_put(self, backend: Any) -> None:
        for size in SIZES:
            ref = backend.put_bytes(key=fresh_location(), content=content_of(size))
            assert backend.get(ref) == content_of(size), f"{size} bytes came back changed"

    def test_a_stream_comes_back_as_it_was_put(self, backend: Any) -> None:
        for size in SIZES:
            ref = backend.put_stream(key=fresh_location(), stream=io.BytesIO(content_of(size)), size=size)
            assert backend.get(ref) == content_of(size), f"a stream of {size} bytes came back changed"

    def test_a_one_shot_stream_with_short_reads_is_stored_whole(self, backend: Any) -> None:
        for size, piece in ((0, 1), (10, 3), (100_000, 999), (9_000_000, 65_537)):
            ref = backend.put_stream(key=fresh_location(), stream=one_shot(content_of(size), piece))
            assert backend.get(ref) == content_of(size), f"of {size} bytes in reads of {piece} not all were stored"

    def test_a_stream_is_stored_from_where_it_stands(self, backend: Any) -> None:
        stream = io.BytesIO(b"read already, and the rest")
        stream.seek(len(b"read already, "))
        ref = backend.put_stream(key=fresh_location(), stream=stream)
        assert backend.get(ref) == b"and the rest", "a stream is read from its position, not from its start"

    def test_a_stream_is_left_open(self, backend: Any) -> None:
        stream = io.BytesIO(b"content")
        backend.put_stream(key=fresh_location(), stream=stream)
        assert not stream.closed, "the stream is the caller's: it must not be closed"

    def test_an_empty_object_is_an_object(self, backend: Any) -> None:
        ref = backend.put_bytes(key=fresh_location(), content=b"")
        assert backend.exists(ref), "an empty object does not exist"
        assert backend.get(ref) == b"", "an empty object is not empty"
        assert list(backend.iter_locations()) == [ref.location], "an empty object is not listed"

    def test_a_ref_says_what_was_put(self, backend: Any) -> None:
        location = fresh_location()
        ref = backend.put_stream(
            key=location,
            stream=io.BytesIO(b"12345"),
            content_type="text/plain",
            original_filename="a.txt",
            extra={"project": 7},
        )
        assert (ref.storage_key, ref.backend, ref.location) == ("", backend.backend_name, location)
        assert (ref.size, ref.content_type, ref.original_filename) == (5, "text/plain", "a.txt")
        assert {**(ref.extra or {}), "project": 7} == ref.extra, "extra was not recorded"

    def test_locations_keep_each_of_their_characters(self, backend: Any) -> None:
        locations = [f"suite/{name}/{name}.bin" for name in _ODD]
        for location in locations:
            backend.put_bytes(key=location, content=location.encode())
        for location in locations:
            assert backend.get(ref_to(backend, location)) == location.encode(), f"{location!r} has another's content"
        assert sorted(backend.iter_locations()) == sorted(locations), (
            "locations are listed otherwise than they were put"
        )

    def test_a_put_never_replaces_an_object(self, backend: Any) -> None:
        if not has_ability(backend, Ability.NO_OVERWRITE):
            return
        for size in (5, 9_000_000):
            ref = backend.put_bytes(key=fresh_location(), content=b"first")
            with pytest.raises(ObjectExistsError):
                backend.put_bytes(key=ref.location, content=content_of(size))
            with pytest.raises(ObjectExistsError):
                backend.put_stream(key=ref.location, stream=one_shot(content_of(size), 65_536))
            assert backend.get(ref) == b"first", "an object was replaced"

    def test_a_stream_that_fails_leaves_nothing_visible(self, backend: Any) -> None:
        for before in (0, 100_000, 9_000_000):
            for error in (OSError("connection lost"), ContentTooLargeError("too large"), KeyboardInterrupt()):
                location = fresh_location()
                with pytest.raises(type(error)) as raised:
                    backend.put_stream(key=location, stream=then(content_of(before), _raiser(error)))
                assert raised.value is error, "the stream's own error must come out as it is"
                assert not backend.exists(ref_to(backend, location)), (
                    f"a stream that failed after {before} bytes exists"
                )
                assert list(backend.iter_locations()) == [], f"a stream that failed after {before} bytes is listed"

    def test_a_location_can_be_used_after_a_stream_failed(self, backend: Any) -> None:
        location = fresh_location()
        with pytest.raises(OSError, match="lost"):
            backend.put_stream(key=location, stream=then(b"half", _raiser(OSError("connection lost"))))
        assert backend.get(backend.put_bytes(key=location, content=b"whole")) == b"whole"

    def test_an_object_is_not_visible_before_it_is_whole(self, backend: Any) -> None:
        for size in (100_000, 9_000_000):
            location = fresh_location()
            seen: list[tuple[bool, bool]] = []

            def look(location: str = location, seen: list[tuple[bool, bool]] = seen) -> None:
                seen.append((backend.exists(ref_to(backend, location)), location in list(backend.iter_locations())))

            backend.put_stream(key=location, stream=then(content_of(size), look))
            assert seen, "the stream was not read to its end"
            assert set(seen) == {(False, False)}, "an object is visible while it is still being put"


def _raiser(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail
