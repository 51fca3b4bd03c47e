"""`Hypothesis <https://hypothesis.readthedocs.io>`_ strategies for refs and what goes into them.

They give everything that this library promises to store and read back, in every supported database, so that an
application can test its own serializers, caches and templates with the same values:

>>> from hypothesis import given, settings
>>> @settings(max_examples=10, database=None)
... @given(refs())
... def test_a_ref_survives_my_cache(ref):
...     cached = ref.to_json()
...     assert StoredObjectRef.from_json(cached).to_dict() == ref.to_dict()
>>> test_a_ref_survives_my_cache()
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from granite_storage.locations import new_location
from granite_storage.refs import MAX_FILENAME_BYTES, StoredObjectRef

__all__ = ["contents", "extras", "filenames", "locations", "ref_dicts", "refs"]

# Seven levels of JSON: the ref itself is the first of the eight it may have.
_EXTRA_LEVELS = 7
# 1970-01-01 to 9999-12-31, milliseconds.
_TIMES = st.integers(min_value=0, max_value=253_402_300_799_999)
_NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,19}", fullmatch=True)
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_CONTENT_TYPES = st.sampled_from(("application/octet-stream", "image/png", "text/plain; charset=utf-8"))
_NOTED_FILENAMES = ("report.pdf", "naïve café.txt", "レポート.docx", "a\u202etxt.exe", "'; DROP--", "\U0001f469")
_SUFFIXES = st.sampled_from(("", ".jpg", ".pdf", ".tar.gz", ".txt"))
_MEMBERS = frozenset(member.name for member in fields(StoredObjectRef) if member.init)


def filenames() -> st.SearchStrategy[str]:
    """Filenames that a ref can hold: any Unicode but NUL and lone surrogates, 1 to 255 bytes of UTF-8."""
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    short = st.text(characters, min_size=1, max_size=40)
    long = st.text(characters, min_size=1, max_size=4).map(_repeated_to_the_limit)
    return short | long | st.sampled_from(_NOTED_FILENAMES)


def locations() -> st.SearchStrategy[str]:
    """Locations as this version makes them, and as 0.1.0 did (``<prefix>/<table>/<id>-<8 hex><suffix>``)."""
    return st.builds(_new_location, _NAMES, _SUFFIXES, _TIMES) | _old_locations()


def extras() -> st.SearchStrategy[dict[str, Any]]:
    """The ``extra`` of a ref: JSON dicts within its limits of depth and size.

    Floats are those that every JSON column gives back as they were: finite, less than 1e15 from zero.
    """
    value: st.SearchStrategy[Any] = _scalars()
    for _ in range(_EXTRA_LEVELS - 1):
        value = _scalars() | st.lists(value, max_size=2) | st.dictionaries(_TEXTS, value, max_size=2)
    return st.dictionaries(_TEXTS, value, max_size=4)


def refs() -> st.SearchStrategy[StoredObjectRef]:
    """Refs that could have been stored by this version."""
    return st.builds(
        StoredObjectRef,
        storage_key=_NAMES,
        backend=_NAMES,
        location=locations(),
        size=_sizes(),
        checksum=_checksums(),
        content_type=st.none() | _CONTENT_TYPES,
        original_filename=st.none() | filenames(),
        created_at=st.none() | _instants(),
        extra=st.none() | extras(),
    )


def ref_dicts(*, unknown_members: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """What a ref column may hold as JSON: refs as 0.1.0 wrote them, and refs of versions to come.

    :param unknown_members: also give members that this version does not know, nested ones among them.
    """
    written = st.fixed_dictionaries(
        {
            "storage_key": _NAMES,
            "backend": st.sampled_from(("local", "s3")),
            "location": locations(),
            "size": _sizes(),
            "checksum": _checksums(),
            "content_type": st.none() | _CONTENT_TYPES,
            "original_filename": st.none() | filenames(),
            "created_at": st.none() | _instants(),
            "extra": st.none() | st.fixed_dictionaries({"bucket": _NAMES}) | extras(),
        }
    )
    if not unknown_members:
        return written
    unknown = extras().map(lambda extra: {name: value for name, value in extra.items() if name not in _MEMBERS})
    return written | st.builds(lambda later, ref: {**later, **ref}, unknown, written)


def contents(max_size: int = 1024 * 1024) -> st.SearchStrategy[bytes]:
    """Contents of a file: empty, small, and longer than the buffers they pass through.

    :param max_size: the longest, in bytes.
    """
    small = st.binary(max_size=min(max_size, 256))
    lengths = st.integers(min_value=0, max_value=max_size)
    return small | st.builds(_repeated, st.binary(min_size=1, max_size=64), lengths)


def _repeated_to_the_limit(text: str) -> str:
    return text * (MAX_FILENAME_BYTES // len(text.encode()))


def _repeated(unit: bytes, length: int) -> bytes:
    return (unit * (length // len(unit) + 1))[:length]


def _new_location(prefix: str, suffix: str, milliseconds: int) -> str:
    return new_location(prefix, suffix, milliseconds=milliseconds)


def _old_locations() -> st.SearchStrategy[str]:
    return st.builds(
        lambda folders, entity, digits, suffix: f"{'/'.join(folders)}/{entity}-{digits:08x}{suffix}",
        st.lists(_NAMES, min_size=1, max_size=2),
        st.integers(min_value=1).map(str) | st.uuids().map(str),
        st.integers(min_value=0, max_value=2**32 - 1),
        _SUFFIXES,
    )


def _scalars() -> st.SearchStrategy[Any]:
    return (
        st.none()
        | st.booleans()
        | st.integers(min_value=-(2**63), max_value=2**63 - 1)
        | st.floats(min_value=-1e15, max_value=1e15, exclude_min=True, exclude_max=True, allow_subnormal=False)
        | _TEXTS
    )


def _sizes() -> st.SearchStrategy[int]:
    return st.integers(min_value=0, max_value=2**63 - 1)


def _checksums() -> st.SearchStrategy[str]:
    return st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}")


def _instants() -> st.SearchStrategy[str]:
    return st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat)  # noqa: DTZ001
