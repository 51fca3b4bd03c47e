"""What is deleted is gone, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import ObjectNotFoundError
from granite_storage.testing.suite.sources import fresh_location, ref_to

__all__ = ["DeletingSuite"]

# What URLs, XML and shells give a meaning to.
_ODD = ("a b+c", "100%25", "<&>'\"", "a;b=c,d", "*?[x]", "back\\slash", "\u00e9")


class DeletingSuite:
    """Checks of ``delete``, and of ``delete_many`` and ``remove_leftovers`` where they are declared."""

    def test_a_deleted_object_is_gone(self, backend: Any) -> None:
        ref = backend.put_bytes(key=fresh_location(), content=b"x")
        backend.delete(ref)
        assert not backend.exists(ref), "a deleted object exists"
        assert list(backend.iter_locations()) == [], "a deleted object is listed"
        with pytest.raises(ObjectNotFoundError):
            backend.get(ref)

    def test_deleting_what_is_not_there_does_nothing(self, backend: Any) -> None:
        ref = backend.put_bytes(key=fresh_location(), content=b"x")
        backend.delete(ref)
        backend.delete(ref)
        backend.delete(ref_to(backend, "missing/folder/x"))

    def test_a_delete_leaves_the_neighbours(self, backend: Any) -> None:
        locations = ["suite/a", "suite/a-b", "suite/aa", "suite/b/a", "suite-a"]
        for location in locations:
            backend.put_bytes(key=location, content=location.encode())
        backend.delete(ref_to(backend, "suite/a"))
        backend.delete(ref_to(backend, "suite/b"))  # a folder: no object, so nothing happens
        assert sorted(backend.iter_locations()) == sorted(locations[1:]), "a delete took its neighbours along"

    def test_a_location_can_be_used_again_after_a_delete(self, backend: Any) -> None:
        ref = backend.put_bytes(key=fresh_location(), content=b"first")
        backend.delete(ref)
        assert backend.get(backend.put_bytes(key=ref.location, content=b"second")) == b"second"

    def test_many_are_deleted_at_once(self, backend: Any) -> None:
        if not has_ability(backend, Ability.BATCH_DELETE):
            return
        refs = [backend.put_bytes(key=fresh_location(), content=b"x") for _ in range(5)]
        missing = ref_to(backend, "missing/folder/x")
        assert backend.delete_many([]) == []
        assert backend.delete_many([*refs[:4], missing]) == [], "what is gone already is no failure"
        assert list(backend.iter_locations()) == [refs[4].location], "not these were deleted"

    def test_one_that_cannot_be_deleted_does_not_keep_the_others(self, backend: Any) -> None:
        if not has_ability(backend, Ability.BATCH_DELETE):
            return
        refs = [backend.put_bytes(key=fresh_location(), content=b"x") for _ in range(2)]
        hostile = ref_to(backend, "../x")
        failures = backend.delete_many([refs[0], hostile, refs[1]])
        assert [failure.ref for failure in failures] == [hostile], "the one with a hostile location is the failure"
        assert list(backend.iter_locations()) == [], "one failure kept the others"

    def test_whatever_a_location_is_made_of_it_is_listed_and_deleted(self, backend: Any) -> None:
        kept = backend.put_bytes(key=fresh_location(), content=b"x")
        refs = [backend.put_bytes(key=f"suite/{name}", content=b"x") for name in _ODD]
        listed = sorted(backend.iter_locations())
        assert listed == sorted([kept.location, *(ref.location for ref in refs)]), "an odd location is listed otherwise"
        if has_ability(backend, Ability.BATCH_DELETE):
            assert backend.delete_many(refs[1:]) == []
        for ref in refs:
            backend.delete(ref)
        assert list(backend.iter_locations()) == [kept.location], "an odd location cannot be deleted"

    def test_removing_leftovers_leaves_every_object(self, backend: Any) -> None:
        if not has_ability(backend, Ability.LEFTOVERS):
            return
        refs = [backend.put_bytes(key=location, content=b"x") for location in (fresh_location(), "suite/2000/01/01/x")]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert backend.remove_leftovers(tomorrow, dry_run=True) == 0, "there is an object, and nothing unfinished"
        assert backend.remove_leftovers(tomorrow) == 0, "there is an object, and nothing unfinished"
        assert all(backend.get(ref) == b"x" for ref in refs), "removing leftovers took an object"
        backend.delete(refs[1])
        found = backend.remove_leftovers(tomorrow, dry_run=True)
        assert backend.remove_leftovers(tomorrow) == found, "a dry run counts differently"
        assert backend.remove_leftovers(tomorrow) == 0, "what was removed is found again"
        assert backend.get(backend.put_bytes(key=refs[1].location, content=b"y")) == b"y"
