"""The public strategies keep to the limits that they promise, and reach them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from granite_storage.locations import check_location, location_time
from granite_storage.refs import MAX_FILENAME_BYTES, StoredObjectRef
from granite_storage.testing.strategies import contents, extras, filenames, locations, ref_dicts, refs

OLD_MEMBERS = {
    *("storage_key", "backend", "location", "size", "checksum"),
    *("content_type", "original_filename", "created_at", "extra"),
}


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in floats(part)]
    if isinstance(value, list):
        return [number for part in value for number in floats(part)]
    return [value] if isinstance(value, float) else []


@given(refs())
def test_refs_are_refs(ref: StoredObjectRef) -> None:
    assert isinstance(ref, StoredObjectRef)


@given(ref_dicts(unknown_members=False))
def test_dicts_without_unknown_members_have_what_0_1_0_wrote(data: dict[str, Any]) -> None:
    assert set(data) == OLD_MEMBERS
    json.dumps(data, allow_nan=False)


@given(filenames())
def test_filenames_fit_into_a_ref(filename: str) -> None:
    assert 1 <= len(filename.encode()) <= MAX_FILENAME_BYTES
    assert "\0" not in filename


@given(extras())
def test_extras_are_json_that_every_database_gives_back(extra: dict[str, Any]) -> None:
    assert depth(extra) <= 7
    assert all(math.isfinite(number) and abs(number) < 1e15 for number in floats(extra))
    assert json.loads(json.dumps(extra, allow_nan=False)) == extra


@given(locations())
def test_locations_are_safe(location: str) -> None:
    assert check_location(location) == location


@given(st.data())
def test_contents_keep_to_their_limit(data: st.DataObject) -> None:
    limit = data.draw(st.integers(min_value=0, max_value=1000))
    assert len(data.draw(contents(limit))) <= limit


FINDING = settings(
    max_examples=5000,
    database=None,
    deadline=None,
    phases=(Phase.generate,),  # any example will do: no time is spent on a smaller one
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (filenames(), lambda name: len(name.encode()) == MAX_FILENAME_BYTES),
        (filenames(), lambda name: any(ord(character) > 0xFFFF for character in name)),
        (extras(), lambda extra: depth(extra) >= 4),
        (locations(), lambda location: location_time(location) is None),
        (locations(), lambda location: location_time(location) is not None),
        (ref_dicts(), lambda data: set(data) > OLD_MEMBERS),
        (ref_dicts(), lambda data: any(isinstance(data[name], dict) for name in set(data) - OLD_MEMBERS)),
        (contents(), lambda content: content == b""),
        (contents().map(len), lambda size: size > 65536),
        (refs(), lambda ref: ref.size > 2**32),
    ],
    ids=[
        *("longest filename", "astral filename", "deep extra", "old location", "new location", "unknown member"),
        *("nested unknown member", "empty content", "large content", "large size"),
    ],
)
def test_the_strategies_reach_the_edges(strategy: st.SearchStrategy[Any], wanted: Any) -> None:
    assert wanted(find(strategy, wanted, settings=FINDING))
