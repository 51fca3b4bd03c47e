"""Locations that would leave the backend's root, or that other parts cannot carry, are refused."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import InvalidLocationError, InvalidRefError, StorageError
from granite_storage.testing.suite.sources import fresh_location, ref_to

__all__ = ["HOSTILE", "RefusingSuite"]

HOSTILE = (
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/../../b",
    "./a",
    "a/.",
    "a/",
    "a//b",
    "/abs",
    "//abs",
    "a\0b",
    "a\nb",
    "a\ud800b",
    "a/" + "x" * 1024,
    ".incoming/x",
    ".incoming",
)
"""Locations that no backend may take."""


class RefusingSuite:
    """Checks of hostile locations; each must be a StorageError, and nothing may come of it."""

    def test_nothing_is_put_at_a_hostile_location(self, backend: Any) -> None:
        for location in HOSTILE:
            for put, content in ((backend.put_bytes, b"x"), (backend.put_stream, io.BytesIO(b"x"))):
                argument = {"content": content} if put == backend.put_bytes else {"stream": content}
                with pytest.raises(StorageError):
                    put(key=location, **argument)
                assert list(backend.iter_locations()) == [], f"something was put at {location!r}"

    def test_nothing_is_copied_to_a_hostile_location(self, backend: Any) -> None:
        if not has_ability(backend, Ability.COPY):
            return
        ref = backend.put_bytes(key=fresh_location(), content=b"x")
        for location in HOSTILE:
            with pytest.raises(StorageError):
                backend.copy(ref, key=location)
            assert list(backend.iter_locations()) == [ref.location], f"something was copied to {location!r}"

    def test_nothing_is_read_or_deleted_at_a_hostile_location(self, backend: Any) -> None:
        kept = backend.put_bytes(key="b", content=b"x")
        for location in HOSTILE:
            try:
                ref = ref_to(backend, location)
            except InvalidRefError:
                continue  # a ref with it cannot come into being
            for read in (backend.get, backend.open):
                with pytest.raises(StorageError):
                    read(ref)
            with suppress(StorageError):
                assert not backend.exists(ref), f"something exists at {location!r}"
            with suppress(StorageError):
                backend.delete(ref)
            assert backend.exists(kept), f"deleting {location!r} deleted 'b'"

    def test_no_hostile_folder_is_listed(self, backend: Any) -> None:
        backend.put_bytes(key="b/x", content=b"x")
        for prefix in ("..", "../", "a/../b", "./b", "a/../../b", ".incoming"):
            with suppress(InvalidLocationError):
                assert list(backend.iter_locations(prefix)) == [], f"the folder {prefix!r} was listed"
