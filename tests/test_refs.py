"""Refs: frozen, JSON in and out, readable across versions."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given

from granite_storage.exceptions import InvalidRefError
from granite_storage.refs import StoredObjectRef
from granite_storage.testing.strategies import extras, filenames, ref_dicts, refs

OLD: dict[str, Any] = {
    "storage_key": "documents",
    "backend": "s3",
    "location": "docs/document/42-deadbeef.pdf",
    "size": 5,
    "checksum": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "content_type": "application/pdf",
    "original_filename": "report.pdf",
    "created_at": "2025-03-01T12:00:00+00:00",
    "extra": {"bucket": "my-bucket"},
}
"""A ref as granite-storage 0.1.0 wrote it."""


def make(**members: Any) -> StoredObjectRef:
    return StoredObjectRef(**{**OLD, **members})


@given(refs())
def test_a_ref_survives_a_dict(ref: StoredObjectRef) -> None:
    assert StoredObjectRef.from_dict(ref.to_dict()).to_dict() == ref.to_dict()


@given(refs())
def test_a_ref_survives_json(ref: StoredObjectRef) -> None:
    assert StoredObjectRef.from_json(ref.to_json()).to_dict() == ref.to_dict()
    assert StoredObjectRef.from_dict(json.loads(json.dumps(ref.to_dict()))) == ref


@given(ref_dicts(unknown_members=False))
def test_what_0_1_0_wrote_is_read_and_written_back_as_it_was(data: dict[str, Any]) -> None:
    assert StoredObjectRef.from_dict(data).to_dict() == data


@given(ref_dicts())
def test_members_of_a_later_version_survive_a_round_trip(data: dict[str, Any]) -> None:
    ref = StoredObjectRef.from_dict(json.loads(json.dumps(data)))
    assert json.loads(ref.to_json()) == data
    assert ref.replace(storage_key="other").to_dict() == {**data, "storage_key": "other"}
    assert pickle.loads(pickle.dumps(ref)).to_dict() == data


def test_a_nested_member_of_a_later_version_survives_a_round_trip() -> None:
    data = {**OLD, "encryption": {"key": {"id": 7, "wraps": ["a", None, {"b": 1.5}]}}}
    assert StoredObjectRef.from_dict(data).to_dict() == data


def test_members_that_0_1_0_left_out_are_none() -> None:
    data = {name: OLD[name] for name in ("storage_key", "backend", "location", "size", "checksum")}
    ref = StoredObjectRef.from_dict(data)
    assert (ref.content_type, ref.original_filename, ref.created_at, ref.extra) == (None, None, None, None)


@given(filenames())
def test_any_unicode_filename_survives(filename: str) -> None:
    assert StoredObjectRef.from_json(make(original_filename=filename).to_json()).original_filename == filename


@given(extras())
def test_any_extra_survives(extra: dict[str, Any]) -> None:
    assert StoredObjectRef.from_json(make(extra=extra).to_json()).extra == extra


def test_a_filename_that_an_earlier_version_wrote_may_be_longer() -> None:
    data = {**OLD, "original_filename": "x" * 300}
    ref = StoredObjectRef.from_dict(data)
    assert ref.to_dict() == data
    assert ref.replace(storage_key="other").original_filename == "x" * 300
    with pytest.raises(InvalidRefError, match="'original_filename': 300 bytes are more than 255"):
        ref.replace(original_filename="y" * 300)


def test_two_refs_are_the_same_object_if_backend_and_location_are() -> None:
    one = make()
    other = make(storage_key="else", size=6, checksum="", original_filename=None, extra=None)
    assert one == other
    assert hash(one) == hash(other)
    assert one != make(backend="local")
    assert one != make(location="docs/else")
    assert len({one, other, make(backend="local")}) == 2
    assert one != one.to_dict()


@given(refs(), refs())
def test_equal_refs_have_equal_hashes(one: StoredObjectRef, other: StoredObjectRef) -> None:
    assert (one == other) == ((one.backend, one.location) == (other.backend, other.location))
    twin = StoredObjectRef.from_dict(one.to_dict())
    assert hash(twin) == hash(one)


@pytest.mark.parametrize("member", list(OLD))
def test_no_member_can_be_set_or_deleted(member: str) -> None:
    ref = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(ref, member, OLD[member])
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(ref, member)
    assert not hasattr(ref, "__dict__")


def test_the_extra_is_frozen_to_its_leaves() -> None:
    given_extra: dict[str, Any] = {"a": {"b": [1]}}
    ref = make(extra=given_extra)
    given_extra["a"]["b"].append(2)
    assert ref.extra == {"a": {"b": [1]}}
    assert ref.extra is not None
    with pytest.raises(TypeError, match="replace"):
        ref.extra["x"] = 1
    with pytest.raises(TypeError, match="replace"):
        ref.extra["a"]["b"].append(2)


def test_the_dict_of_a_ref_is_the_callers_to_change() -> None:
    ref = StoredObjectRef.from_dict({**OLD, "later": {"a": [1]}})
    data = ref.to_dict()
    data["extra"]["bucket"] = "else"
    data["later"]["a"].append(2)
    assert ref.to_dict() == {**OLD, "later": {"a": [1]}}


def test_replace_changes_a_copy() -> None:
    ref = make()
    changed = ref.replace(storage_key="covers", extra={"a": 1})
    assert (changed.storage_key, changed.extra, changed.location) == ("covers", {"a": 1}, ref.location)
    assert ref.to_dict() == OLD
    with pytest.raises(InvalidRefError, match="no member 'sise'"):
        ref.replace(sise=5)


@given(ref_dicts())
def test_a_ref_pickles_and_copies_with_all_its_members(data: dict[str, Any]) -> None:
    ref = StoredObjectRef.from_dict(data)
    for copied in (pickle.loads(pickle.dumps(ref)), copy.copy(ref), copy.deepcopy(ref)):
        assert copied == ref
        assert copied.to_dict() == data


def test_the_repr_holds_no_filename_and_nothing_of_the_application() -> None:
    ref = StoredObjectRef.from_dict(
        {**OLD, "original_filename": "secret.pdf", "later": "secret", "extra": {"a": "secret"}}
    )
    assert "secret" not in repr(ref)
    assert OLD["location"] in repr(ref)
