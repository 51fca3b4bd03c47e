"""Opening, looking at and copying what is stored; and what happens where nothing is."""

from __future__ import annotations

import io
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.base import Ability, abilities_of, has_ability
from granite_storage.exceptions import ObjectExistsError, ObjectNotFoundError
from granite_storage.testing.suite.sources import SIZES, content_of, fresh_location, ref_to

__all__ = ["ReadingSuite"]

_METHODS = {
    Ability.STAT: "stat",
    Ability.COPY: "copy",
    Ability.COPY_FROM: "copy_from",
    Ability.BATCH_DELETE: "delete_many",
    Ability.ORDERED_LISTING: "iter_objects",
    Ability.LOCAL_PATH: "local_path",
    Ability.GROUP: "group",
    Ability.LEFTOVERS: "remove_leftovers",
    Ability.PRESIGN: "presign_get",
    Ability.DIRECT_UPLOAD: "presign_upload",
    Ability.PARALLEL_READ: "read_into",
}


class ReadingSuite:
    """Checks of ``get``, ``open`` and ``exists``; of ``stat``, ``copy`` and other ways to read where declared."""

    def test_abilities_are_declared_with_their_methods(self, backend: Any) -> None:
        for ability in abilities_of(backend):
            assert isinstance(ability, Ability), f"{ability!r} is no Ability"
            method = _METHODS.get(ability)
            assert method is None or callable(getattr(backend, method, None)), (
                f"{ability} is declared without {method}()"
            )

    def test_a_missing_object_is_an_error_to_read(self, backend: Any) -> None:
        for location in (fresh_location(), "suite", "missing/folder/x"):
            for read in (backend.get, backend.open):
                with pytest.raises(ObjectNotFoundError):
                    read(ref_to(backend, location))

    def test_a_folder_is_not_an_object(self, backend: Any) -> None:
        backend.put_bytes(key="suite/folder/x", content=b"x")
        for read in (backend.get, backend.open):
            with pytest.raises(ObjectNotFoundError):
                read(ref_to(backend, "suite/folder"))
        assert not backend.exists(ref_to(backend, "suite/folder")), "a folder exists as if it were an object"

    def test_an_object_exists_where_it_was_put_and_nowhere_else(self, backend: Any) -> None:
        ref = backend.put_bytes(key="suite/a", content=b"x")
        assert backend.exists(ref) is True
        for location in ("suite/b", "suite/a/b", "suite/aa", "a", "suite/A"):
            assert backend.exists(ref_to(backend, location)) is False, (
                f"{location!r} exists, and only 'suite/a' was put"
            )

    def test_an_object_opens_as_a_stream(self, backend: Any) -> None:
        for size in SIZES:
            ref = backend.put_bytes(key=fresh_location(), content=content_of(size))
            with backend.open(ref) as stream:
                parts = list(iter(lambda: stream.read(100_003), b""))
            assert b"".join(parts) == content_of(size), f"a stream of {size} bytes gave others"

    def test_streams_of_one_object_do_not_disturb_each_other(self, backend: Any) -> None:
        ref = backend.put_bytes(key=fresh_location(), content=content_of(1_000_000))
        with backend.open(ref) as one, backend.open(ref) as other:
            halves = [one.read(500_000), other.read(500_000), one.read(), other.read()]
        assert halves[0] + halves[2] == halves[1] + halves[3] == content_of(1_000_000)

    def test_an_open_stream_can_be_sought(self, backend: Any) -> None:
        if not has_ability(backend, Ability.RANGED_READ):
            return
        content = content_of(3_000_000)
        ref = backend.put_bytes(key=fresh_location(), content=content)
        dice, expected = random.Random(0), io.BytesIO(content)
        with backend.open(ref) as stream:
            assert stream.seekable(), "RANGED_READ is declared, and the stream says that it is not seekable"
            assert stream.seek(0, os.SEEK_END) == len(content), "the end is not where the content ends"
            assert stream.read(1) == b"", "there is something after the end"
            for _ in range(60):
                target, count = dice.randrange(len(content) + 10), dice.choice((0, 1, 100, 8192, 300_000))
                assert stream.seek(target) == expected.seek(target)
                assert stream.read(count) == expected.read(count), f"{count} bytes at {target} are others"
                assert stream.tell() == expected.tell()
            expected.seek(-7, os.SEEK_END)
            stream.seek(-7, os.SEEK_END)
            assert stream.read() == expected.read(), "the last bytes are others"

    def test_stat_tells_size_and_time(self, backend: Any) -> None:
        if not has_ability(backend, Ability.STAT):
            return
        for size in (0, 1, 100_000):
            info = backend.stat(backend.put_bytes(key=fresh_location(), content=content_of(size)))
            assert info.size == size, f"stat says {info.size} bytes, and it is {size}"
            assert info.modified.utcoffset() == timedelta(0), "modified must be in UTC, and say so"
            assert abs(datetime.now(UTC) - info.modified) < timedelta(days=1), "modified is not the time of the put"
        with pytest.raises(ObjectNotFoundError):
            backend.stat(ref_to(backend, fresh_location()))

    def test_a_copy_is_an_object_of_its_own(self, backend: Any) -> None:
        if not has_ability(backend, Ability.COPY):
            return
        for size in (0, 1, 1_000_000):
            ref = backend.put_bytes(key=fresh_location(), content=content_of(size), content_type="text/plain")
            copied = ref_to(backend, fresh_location())
            backend.copy(ref, key=copied.location, content_type="text/csv")
            assert backend.get(copied) == backend.get(ref) == content_of(size), "a copy has other bytes"
            backend.delete(ref)
            assert backend.get(copied) == content_of(size), "a copy went with its source"

    def test_a_copy_of_nothing_is_an_error_and_makes_nothing(self, backend: Any) -> None:
        if not has_ability(backend, Ability.COPY):
            return
        with pytest.raises(ObjectNotFoundError):
            backend.copy(ref_to(backend, fresh_location()), key=fresh_location())
        assert list(backend.iter_locations()) == [], "a copy of nothing made something"

    def test_a_copy_never_replaces_an_object(self, backend: Any) -> None:
        if not has_ability(backend, Ability.COPY) or not has_ability(backend, Ability.NO_OVERWRITE):
            return
        first = backend.put_bytes(key=fresh_location(), content=b"first")
        second = backend.put_bytes(key=fresh_location(), content=b"second")
        for target in (first, second):
            with pytest.raises(ObjectExistsError):
                backend.copy(second, key=target.location)
        assert (backend.get(first), backend.get(second)) == (b"first", b"second"), "a copy replaced an object"

    def test_a_local_path_is_the_content(self, backend: Any) -> None:
        if not has_ability(backend, Ability.LOCAL_PATH):
            return
        ref = backend.put_bytes(key=fresh_location(), content=content_of(100_000))
        with backend.local_path(ref) as path:
            assert path.read_bytes() == content_of(100_000), "the file at local_path is another"
            assert path.suffix == ".bin", "the file lost its suffix, which tools go by"
        with pytest.raises(ObjectNotFoundError), backend.local_path(ref_to(backend, fresh_location())):
            pass

    def test_an_object_is_read_into_a_file(self, backend: Any, tmp_path: Path) -> None:
        if not has_ability(backend, Ability.PARALLEL_READ):
            return
        for size in (*SIZES, 20_000_001):
            content = content_of(size)
            ref = backend.put_bytes(key=fresh_location(), content=content)
            for follow in (None, bytearray()):
                with (tmp_path / f"{size}-{follow is None}").open("x+b", buffering=0) as file:
                    told = backend.read_into(ref, file, follow=None if follow is None else follow.extend)
                    assert Path(file.name).read_bytes() == content, f"the file of {size} bytes has others"
                assert told == size, f"read_into says that {size} bytes are {told}"
                assert follow is None or bytes(follow) == content, "what is followed is not the content in its order"

    def test_a_missing_object_is_an_error_to_read_into_a_file(self, backend: Any, tmp_path: Path) -> None:
        if not has_ability(backend, Ability.PARALLEL_READ):
            return
        with (tmp_path / "file").open("x+b", buffering=0) as file, pytest.raises(ObjectNotFoundError):
            backend.read_into(ref_to(backend, fresh_location()), file)
