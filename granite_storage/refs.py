"""The ref: the small JSON value that stands in a column for an object in a backend.

A ref is a plain frozen value; it does no I/O. Two refs are the same object if their backend and location
are equal, whatever else they say. A ref that was written by granite-storage 0.1.0 or by a later
version reads as it is: members this version does not know are kept and written back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Self

from granite_storage.exceptions import InvalidRefError
from granite_storage.frozen import FrozenDict, freeze, thaw
from granite_storage.locations import MAX_LOCATION_BYTES

__all__ = ["MAX_FILENAME_BYTES", "MAX_REF_BYTES", "MAX_REF_LEVELS", "StoredObjectRef"]

MAX_REF_BYTES = 64 * 1024
"""The largest ref, in bytes of UTF-8 JSON without spaces."""
MAX_REF_LEVELS = 8
"""The deepest nesting of a ref's JSON; the ref itself is level 1."""
MAX_FILENAME_BYTES = 255
"""The longest filename of a new ref, in bytes of UTF-8: the limit of common file systems."""

_MAX_SIZE = 2**63 - 1
_MAX_FLOAT = 1e15  # below it the shortest digits of a float are its value as an integer, too
_MAX_INT_BITS = 4096  # Python reads and writes no more than 4 300 digits
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True, eq=False)
class StoredObjectRef:
    """Names one stored object and describes it.

    :param storage_key: the policy's name.
    :param backend: the manager's name for the backend.
    :param location: where the object is in the backend.
    :param size: bytes.
    :param checksum: ``"<algorithm>:<hex digest>"``, such as ``"sha256:9f86d0..."``.
    :param content_type: the accepted media type.
    :param original_filename: the filename that came with the upload, cleaned.
    :param created_at: when it was stored, ISO 8601 in UTC.
    :param extra: further JSON members of the application or the backend.
    :raises InvalidRefError: naming the member that could not be stored or read back: a negative size, an empty
        location, NaN, a NUL character or a lone surrogate, over 64 KiB or 8 levels of JSON.

    >>> ref = StoredObjectRef("documents", "local", "docs/a.txt", 5, "sha256:2cf2")
    >>> ref == StoredObjectRef.from_dict(ref.to_dict())
    True
    >>> ref.replace(size=-1)
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.InvalidRefError: ref member 'size': -1 is not a number of bytes from 0 to ...
    """

    storage_key: str
    backend: str
    location: str
    size: int
    checksum: str
    content_type: str | None = None
    original_filename: str | None = field(default=None, repr=False)  # logs and reprs hold no filename
    created_at: str | None = None
    extra: dict[str, Any] | None = field(default=None, repr=False)
    _unknown: FrozenDict | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.extra is not None:
            object.__setattr__(self, "extra", _frozen(self.extra, "extra"))
        self._check()
        _check_numbers(self.extra, "extra")
        self._check_filename()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredObjectRef):
            return NotImplemented
        return self.location == other.location and self.backend == other.backend

    def __hash__(self) -> int:
        return hash((self.backend, self.location))

    def to_dict(self) -> dict[str, Any]:
        """The ref as plain JSON data, unknown members included; change it as you like."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        if self.extra is not None:
            members["extra"] = thaw(self.extra)
        return {**thaw(self._unknown), **members} if self._unknown else members

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a ref from JSON data of any version.

        Members this version does not know are kept. A filename longer than a new one may be is
        read as it is, since earlier versions wrote such.

        :raises InvalidRefError: if it is not a ref, naming the member.
        """
        if not isinstance(data, Mapping):
            raise InvalidRefError(f"a ref is a JSON object, not {type(data).__name__}")
        missing = [name for name in _REQUIRED if name not in data]
        if missing:
            hint = ""
            if "legacy_inline_text" in data:
                hint = (
                    "; it is inline text of granite-storage 0.1.0 (legacy_inline_text), to be converted: "
                    "op.convert_to_file_column(table, column, column, policy=...) in a migration does that"
                )
            raise InvalidRefError(f"not a ref: member {missing[0]!r} is missing{hint}")
        ref = object.__new__(cls)
        unknown = {name: value for name, value in data.items() if name not in _MEMBERS}
        set_member = object.__setattr__
        for name in _MEMBERS:
            set_member(ref, name, data.get(name))
        if isinstance(ref.original_filename, str):  # 0.1.0 cleaned none
            set_member(ref, "original_filename", _UNSTORABLE.sub("", ref.original_filename))
        if ref.extra is not None:
            set_member(ref, "extra", _frozen(ref.extra, "extra"))
        set_member(ref, "_unknown", _frozen_unknown(unknown) if unknown else None)
        ref._check()
        return ref

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a ref from JSON text.

        :raises InvalidRefError: if it is not JSON or not a ref.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InvalidRefError(f"not a ref: not JSON ({error})") from error
        except RecursionError as error:
            raise InvalidRefError(f"not a ref: nested deeper than {MAX_REF_LEVELS} levels") from error
        return cls.from_dict(data)

    def to_json(self) -> str:
        """The ref as JSON text without spaces."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def replace(self, **members: Any) -> Self:
        """A copy with some members changed, unknown members kept.

        :raises InvalidRefError: if a member is unknown or its value could not be stored.
        """
        if not members.keys() <= _NAMES:
            unfit = next(name for name in members if name not in _NAMES)
            raise InvalidRefError(f"a ref has no member {unfit!r}; it has {', '.join(_MEMBERS)}")
        ref = object.__new__(type(self))
        set_member = object.__setattr__
        for name, value in zip(_MEMBERS, _members_of(self), strict=True):
            set_member(ref, name, members.get(name, value))
        if members.get("extra") is not None:
            set_member(ref, "extra", _frozen(ref.extra, "extra"))
            _check_numbers(ref.extra, "extra")
        set_member(ref, "_unknown", self._unknown)
        ref._check()
        if "original_filename" in members:  # one that an earlier version wrote may be longer, and stays
            ref._check_filename()
        return ref

    def _check(self) -> None:
        if type(self.size) is not int or not 0 <= self.size <= _MAX_SIZE:
            raise InvalidRefError(f"ref member 'size': {self.size!r} is not a number of bytes from 0 to {_MAX_SIZE}")
        texts = _texts_of(self)
        if not _STR_OR_NONE.issuperset(map(type, texts)) or None in texts[: -len(_OPTIONAL)]:
            for name, value in zip(_TEXTS, texts, strict=True):
                if not isinstance(value, str) and not (value is None and name in _OPTIONAL):
                    raise InvalidRefError(f"ref member {name!r}: {type(value).__name__} is not a str")
        text = "".join(filter(None, texts))
        if _UNSTORABLE.search(text):
            for name, value in zip(_TEXTS, texts, strict=True):
                _check_text(value or "", name)
        if not self.location:
            raise InvalidRefError("ref member 'location': it may not be empty")
        if len(self.location) > MAX_LOCATION_BYTES // 4 and len(self.location.encode()) > MAX_LOCATION_BYTES:
            raise InvalidRefError(f"ref member 'location': it is longer than {MAX_LOCATION_BYTES} bytes of UTF-8")
        if not self.backend:
            raise InvalidRefError("ref member 'backend': it may not be empty")
        if self.extra:
            _check_json(self.extra, "extra", 2)
        if self._unknown:
            for name, value in self._unknown.items():
                _check_text(name, name)
                _check_json(value, name, 2)
        if self.extra or self._unknown or len(text) > MAX_REF_BYTES // 12:
            size = len(self.to_json().encode())
            if size > MAX_REF_BYTES:
                raise InvalidRefError(
                    f"ref member {self._largest()!r}: the ref has {size} bytes of JSON, more than {MAX_REF_BYTES}"
                )

    def _check_filename(self) -> None:
        name = self.original_filename or ""
        if len(name) <= MAX_FILENAME_BYTES // 4:  # no character has more than 4 bytes
            return
        length = len(name.encode())
        if length > MAX_FILENAME_BYTES:
            raise InvalidRefError(
                f"ref member 'original_filename': {length} bytes are more than {MAX_FILENAME_BYTES}; shorten it"
            )

    def _largest(self) -> str:
        return max(self.to_dict().items(), key=lambda item: len(json.dumps(item[1])))[0]


def _frozen(value: Any, member: str) -> FrozenDict:
    if not isinstance(value, Mapping):
        raise InvalidRefError(f"ref member {member!r}: {type(value).__name__} is not a dict")
    try:
        frozen: FrozenDict = freeze(value)
    except RecursionError as error:
        raise InvalidRefError(f"ref member {member!r}: nested deeper than {MAX_REF_LEVELS} levels") from error
    return frozen


def _frozen_unknown(unknown: dict[str, Any]) -> FrozenDict:
    for name in unknown:
        if not isinstance(name, str):
            raise InvalidRefError(f"a ref's members have names: {name!r} is not a str")
    return FrozenDict((name, _frozen({name: value}, name)[name]) for name, value in unknown.items())


def _check_text(text: str, member: str) -> None:
    if _UNSTORABLE.search(text):
        raise InvalidRefError(
            f"ref member {member!r}: it holds a NUL character or a lone surrogate, which no JSON column can keep"
        )


def _check_json(value: Any, member: str, level: int) -> None:
    for part, depth in _walk(value, member, level):
        if depth > MAX_REF_LEVELS:
            raise InvalidRefError(f"ref member {member!r}: nested deeper than {MAX_REF_LEVELS} levels")
        if isinstance(part, str):
            _check_text(part, member)
        elif isinstance(part, float) and not math.isfinite(part):
            raise InvalidRefError(f"ref member {member!r}: {part!r} is not a JSON number")
        elif isinstance(part, int) and part.bit_length() > _MAX_INT_BITS:
            raise InvalidRefError(f"ref member {member!r}: an integer of {part.bit_length()} bits is too large")


def _check_numbers(value: Any, member: str) -> None:
    """Refuse floats that PostgreSQL's JSONB writes out in full, and so gives back as other integers."""
    for part, _ in _walk(value, member, 2) if value else ():
        if isinstance(part, float) and abs(part) >= _MAX_FLOAT:
            raise InvalidRefError(f"ref member {member!r}: the float {part!r} is 1e15 or more; give an int or a str")


def _walk(value: Any, member: str, level: int) -> Iterator[tuple[Any, int]]:
    """Every part of a JSON value with its level; containers count, and end the walk once they are too deep."""
    if isinstance(value, dict):
        yield None, level
        for name, part in value.items():
            if not isinstance(name, str):
                raise InvalidRefError(f"ref member {member!r}: the key {name!r} is not a str")
            yield name, level
            yield from _walk(part, member, level + 1)
    elif isinstance(value, list):
        yield None, level
        for part in value:
            yield from _walk(part, member, level + 1)
    elif value is None or isinstance(value, (str, int, float)):
        yield value, level - 1
    else:
        raise InvalidRefError(f"ref member {member!r}: {type(value).__name__} is not JSON")


_MEMBERS = tuple(member.name for member in fields(StoredObjectRef) if member.init)
_REQUIRED = ("backend", "location", "size")
_OPTIONAL = ("content_type", "original_filename", "created_at")
_TEXTS = ("storage_key", "backend", "location", "checksum", *_OPTIONAL)
_NAMES = frozenset(_MEMBERS)
_STR_OR_NONE = frozenset({str, type(None)})
_members_of = attrgetter(*_MEMBERS)
_texts_of = attrgetter(*_TEXTS)
