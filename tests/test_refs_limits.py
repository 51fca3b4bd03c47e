"""What a ref cannot hold is refused by the name of its member."""

from __future__ import annotations

from typing import Any

import pytest

from granite_storage.exceptions import InvalidRefError
from granite_storage.refs import MAX_FILENAME_BYTES, MAX_REF_BYTES, StoredObjectRef

OLD: dict[str, Any] = {
    "storage_key": "documents",
    "backend": "s3",
    "location": "docs/document/42-deadbeef.pdf",
    "size": 5,
    "checksum": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
}


def make(**members: Any) -> StoredObjectRef:
    return StoredObjectRef(**{**OLD, **members})


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = {"down": value}
    return value


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("size", -1),
        ("size", 2**63),
        ("size", 1.0),
        ("size", True),
        ("size", "5"),
        ("size", None),
        ("location", ""),
        ("location", None),
        ("location", "x" * 1025),
        ("location", "é" * 513),
        ("location", "a\0b"),
        ("backend", ""),
        ("backend", None),
        ("backend", "\ud800"),
        ("storage_key", None),
        ("storage_key", 1),
        ("checksum", None),
        ("checksum", "sha256:\0"),
        ("content_type", 5),
        ("content_type", "text/\0"),
        ("original_filename", b"a.txt"),
        ("created_at", 0),
        ("extra", []),
        ("extra", "text"),
        ("extra", {"a": float("nan")}),
        ("extra", {"a": [float("inf")]}),
        ("extra", {"a": "\0"}),
        ("extra", {"a\0": 1}),
        ("extra", {"a": {"b": "\udfff"}}),
        ("extra", {"a": b"bytes"}),
        ("extra", {"a": {1, 2}}),
        ("extra", {1: "a"}),
        ("extra", {"a": 10**5000}),
        ("extra", nested(8)),
        ("extra", nested(100_000)),
        ("extra", {"a": "x" * MAX_REF_BYTES}),
        ("checksum", "x" * MAX_REF_BYTES),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, dict) else "dict",
)
@pytest.mark.parametrize(
    "door",
    [
        lambda member: make(**member),
        lambda member: StoredObjectRef.from_dict({**OLD, **member}),
        lambda member: make().replace(**member),
    ],
    ids=["constructor", "from_dict", "replace"],
)
def test_what_could_not_be_stored_or_read_back_is_refused_by_name(door: Any, member: str, value: Any) -> None:
    with pytest.raises(InvalidRefError, match=f"'{member}'"):
        door({member: value})


@pytest.mark.parametrize(
    ("later", "named"),
    [
        ({"later": float("nan")}, "later"),
        ({"later": "\0"}, "later"),
        ({"later": nested(8)}, "later"),
        ({"later": nested(100_000)}, "later"),
        ({"later": "x" * MAX_REF_BYTES}, "later"),
        ({"later": object()}, "later"),
        ({"lat\0er": 1}, "lat"),
        ({5: 1}, "5"),
    ],
    ids=["nan", "nul", "deep", "very deep", "large", "object", "name with nul", "name no str"],
)
def test_an_unknown_member_that_could_not_be_read_back_is_refused_by_name(later: dict[Any, Any], named: str) -> None:
    with pytest.raises(InvalidRefError, match=named):
        StoredObjectRef.from_dict({**OLD, **later})


def test_a_ref_may_use_its_limits_to_the_full() -> None:
    assert make(size=2**63 - 1).size == 2**63 - 1
    assert len(make(original_filename="é" * 127 + "x").original_filename.encode()) == MAX_FILENAME_BYTES  # type: ignore[union-attr]
    assert make(extra=nested(7)).extra == nested(7)
    room = MAX_REF_BYTES - len(make(extra={"a": ""}).to_json().encode())
    assert len(make(extra={"a": "x" * room}).to_json()) == MAX_REF_BYTES
    with pytest.raises(InvalidRefError, match=f"{MAX_REF_BYTES + 1} bytes of JSON"):
        make(extra={"a": "x" * (room + 1)})


@pytest.mark.parametrize("member", ["backend", "location", "size", "storage_key", "checksum"])
def test_a_missing_member_is_named(member: str) -> None:
    data = {name: value for name, value in OLD.items() if name != member}
    with pytest.raises(InvalidRefError, match=f"'{member}'"):
        StoredObjectRef.from_dict(data)


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", "5", "null", '"text"', "[" * 100_000, '{"a": NaN}'])
def test_json_that_is_no_ref_is_refused(text: str) -> None:
    with pytest.raises(InvalidRefError, match="ref"):
        StoredObjectRef.from_json(text)


def test_inline_text_of_0_1_0_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidRefError, match=r"inline text of granite-storage 0\.1\.0.*converted"):
        StoredObjectRef.from_dict({"legacy_inline_text": "hello"})


@pytest.mark.parametrize("number", [1e23, 1e308, -1e15])
def test_a_float_that_jsonb_gives_back_as_another_is_refused_and_still_read(number: float) -> None:
    with pytest.raises(InvalidRefError, match=r"extra.*float"):
        StoredObjectRef("d", "l", "x", 0, "", extra={"a": [number]})
    data = {"storage_key": "d", "backend": "l", "location": "x", "size": 0, "checksum": "", "extra": {"a": number}}
    assert StoredObjectRef.from_dict(data).extra == {"a": number}


def test_a_filename_with_a_nul_that_0_1_0_wrote_is_read_without_it() -> None:
    data = {"storage_key": "d", "backend": "l", "location": "x", "size": 0, "original_filename": "a\0b\ud800.txt"}
    assert StoredObjectRef.from_dict({**data, "checksum": ""}).original_filename == "ab.txt"


@pytest.mark.parametrize("filename", ["a\0.txt", "a\udcff.txt"])
def test_a_new_filename_with_what_no_column_keeps_is_refused(filename: str) -> None:
    for door in (make, make().replace):
        with pytest.raises(InvalidRefError, match="'original_filename'"):
            door(original_filename=filename)
