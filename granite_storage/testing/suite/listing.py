"""Listings: complete, by folder, and in the byte order of locations where that is declared."""

from __future__ import annotations

from typing import Any

from granite_storage.backends.base import Ability, has_ability
from granite_storage.testing.suite.sources import content_of

__all__ = ["ListingSuite"]

# In byte order. '-' and '.' come before '/', '0' after it; U+FFFD before U+1F600, though not in UTF-16.
_ORDERED = (
    "docs!/a",
    "docs-old/a",
    "docs.txt",
    "docs/A",
    "docs/a!",
    "docs/a-b/x",
    "docs/a-c",
    "docs/a.b",
    "docs/a/b",
    "docs/a/b-c",
    "docs/a/b.c/d",
    "docs/a0",
    "docs/b/c/d/e",
    "docs/b/c0",
    "docs/\u00e9",
    "docs/\ufffd",
    "docs/\U0001f600",
    "docs0",
    "docsx/a",
    "other",
)


class ListingSuite:
    """Checks of ``iter_locations``, and of ``iter_objects`` where order is declared."""

    def test_everything_is_listed(self, backend: Any) -> None:
        assert list(backend.iter_locations()) == [], "the suite's fixture 'backend' must give an empty backend"
        _put(backend)
        assert sorted(backend.iter_locations()) == sorted(_ORDERED), "a listing has too few or too many"

    def test_a_prefix_is_a_folder(self, backend: Any) -> None:
        _put(backend)
        for prefix in (
            "docs",
            "docs/",
            "docs/a",
            "docs/a/b",
            "docs/b/c",
            "docs/a-b",
            "docs-old",
            "doc",
            "other",
            "docs/A",
        ):
            folder = prefix.rstrip("/") + "/"
            expected = sorted(location for location in _ORDERED if location.startswith(folder))
            found = sorted(backend.iter_locations(prefix))
            assert found == expected, f"the prefix {prefix!r} must list the folder {folder!r} and nothing beside it"

    def test_a_missing_folder_lists_nothing(self, backend: Any) -> None:
        assert list(backend.iter_locations("missing")) == []
        assert list(backend.iter_locations("missing/folder")) == []

    def test_an_empty_prefix_is_no_prefix(self, backend: Any) -> None:
        _put(backend)
        assert sorted(backend.iter_locations("")) == sorted(backend.iter_locations(None)) == sorted(_ORDERED)

    def test_objects_are_listed_in_byte_order(self, backend: Any) -> None:
        if not has_ability(backend, Ability.ORDERED_LISTING):
            return
        _put(backend)
        assert _listed(backend) == list(_ORDERED), "this is not the byte order of whole locations"
        inside = [location for location in _ORDERED if location.startswith("docs/")]
        assert _listed(backend, "docs") == inside, "this is not the byte order of whole locations"

    def test_a_listing_goes_on_after_any_location(self, backend: Any) -> None:
        if not has_ability(backend, Ability.ORDERED_LISTING):
            return
        _put(backend)
        between = ("!", "docs", "docs/", "docs/a", "docs/a/", "docs/a/b/c", "docs/zz", "docs0/x", "\U0010ffff")
        for prefix in (None, "docs", "docs/a"):
            everything = _listed(backend, prefix)
            for start_after in (*_ORDERED, *between):
                expected = [location for location in everything if location > start_after]
                found = _listed(backend, prefix, start_after)
                assert found == expected, f"prefix {prefix!r} after {start_after!r} lists others"

    def test_listed_objects_tell_size_and_time(self, backend: Any) -> None:
        if not has_ability(backend, Ability.ORDERED_LISTING):
            return
        for size in (0, 1, 1000):
            backend.put_bytes(key=f"suite/{size}", content=content_of(size))
        for info in backend.iter_objects():
            assert info.location == f"suite/{info.size}", f"{info.location} is listed with {info.size} bytes"
            offset = info.modified.utcoffset()
            assert offset is not None, "modified must be in UTC, and say so"
            assert not offset, "modified must be in UTC"


def _put(backend: Any) -> None:
    for location in reversed(_ORDERED):
        backend.put_bytes(key=location, content=b"x")


def _listed(backend: Any, prefix: str | None = None, start_after: str | None = None) -> list[str]:
    return [info.location for info in backend.iter_objects(prefix, start_after=start_after)]
