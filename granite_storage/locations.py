"""Where objects live inside a backend: making, checking and reading locations.

A location is ``<prefix>/<yyyy>/<mm>/<dd>/<uuid7><suffix>``. Nothing in it comes from a table, a field or
a user, so renames change nothing, and one prefix per policy and day is all that a sweep has to list.
The UUID is version 7 of RFC 9562 section 5.7 (48 bits of Unix time in milliseconds, 74 random bits), and the date
is taken from the same instant in UTC: within a prefix, lexicographic order is time order.

This module is the one place where a location is made or judged; backends call :func:`check_location` before
they touch anything.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import UTC, datetime, timedelta

from granite_storage.exceptions import InvalidLocationError

__all__ = [
    "INCOMING",
    "MARKS",
    "MAX_LOCATION_BYTES",
    "check_location",
    "location_since",
    "location_time",
    "new_location",
    "prefix_of",
    "uuid7",
]

MAX_LOCATION_BYTES = 1024
"""The longest location, in bytes of UTF-8: the limit of an S3 object key."""

INCOMING = ".incoming"
"""The folder at a backend's root for what is not an object yet; no location may lie in it."""

MARKS = ".granite-storage"
"""The folder at a prefix for the marks of who puts objects there; only a listing of that folder shows them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")  # no segment begins with a dot
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UUID7 = re.compile(r"(?:^|/)([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}[^/]*$")
_DAY = re.compile(r"/[0-9]{4}/[0-9]{2}/[0-9]{2}/")


def uuid7(milliseconds: int | None = None) -> uuid.UUID:
    """Make a UUID version 7 (RFC 9562, section 5.7) for a Unix time in milliseconds, by default now.

    The 74 bits after time, version and variant are random and share no counter, so processes and machines
    need not agree on anything.

    >>> uuid7(1_700_000_000_000).version
    7
    >>> str(uuid7(1_700_000_000_000))[:13]
    '018bcfe5-6800'
    """
    if milliseconds is None:
        milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high, low = random >> 68, random & ((1 << 62) - 1)
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def new_location(prefix: str, suffix: str = "", *, milliseconds: int | None = None) -> str:
    """Make a fresh location below ``prefix``.

    :param prefix: the policy's prefix, without slashes at its ends.
    :param suffix: what follows the UUID, such as ``".pdf"``; it follows the accepted content type, never a filename.
    :param milliseconds: Unix time in milliseconds; now by default.
    :raises InvalidLocationError: if prefix or suffix make no valid location.

    >>> new_location("docs", ".pdf", milliseconds=1_700_000_000_000)[:29]
    'docs/2023/11/14/018bcfe5-6800'
    """
    if milliseconds is None:
        milliseconds = time.time_ns() // 1_000_000
    return check_location(f"{prefix}/{_day(milliseconds)}/{uuid7(milliseconds)}{suffix}")


def _day(milliseconds: int) -> str:
    date = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{date.year:04}/{date.month:02}/{date.day:02}"


def location_since(prefix: str, instant: datetime) -> str:
    """What stands, in byte order, before every new location below a prefix from an instant on, and behind all earlier.

    It is no location that :func:`new_location` makes.

    :param instant: an aware datetime; it counts to the millisecond.

    >>> location_since("docs", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))
    'docs/2023/11/14/018bcfe5-6800'
    """
    milliseconds = (instant - _EPOCH) // timedelta(milliseconds=1)
    return f"{prefix}/{_day(milliseconds)}/{str(uuid7(milliseconds))[:13]}"


def location_time(location: str) -> datetime | None:
    """The instant (UTC, to the millisecond) that a location's UUIDv7 tells, or None if it holds none.

    >>> location_time("docs/2023/11/14/018bcfe5-6800-7000-8000-000000000000.pdf").isoformat()
    '2023-11-14T22:13:20+00:00'
    >>> location_time("document/42-deadbeef.pdf") is None
    True
    """
    match = _UUID7.search(location)
    if match is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(match[1] + match[2], 16))
    except OverflowError:
        return None


def prefix_of(location: str) -> str | None:
    """The prefix below which :func:`new_location` would make a location, or None if it makes none such.

    >>> prefix_of("docs/2023/11/14/018bcfe5-6800-7000-8000-000000000000.pdf")
    'docs'
    >>> prefix_of("docs/page/018bcfe5-6800-7000-8000-000000000000-deadbeef.pdf") is None
    True
    """
    folder = location[: location.rfind("/") + 1]
    day = _DAY.fullmatch(folder[-12:])
    return folder[:-12] if day and _UUID7.search(location) else None


def check_location(location: str) -> str:
    """Return ``location`` if it is safe inside a backend's root.

    :raises InvalidLocationError: if it is empty, absolute, longer than :data:`MAX_LOCATION_BYTES`, has a
        control character, a lone surrogate, an empty, ``.`` or ``..`` segment, or lies in :data:`INCOMING`.

    >>> check_location("docs/a.txt")
    'docs/a.txt'
    >>> check_location("../etc/passwd")
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.InvalidLocationError: location '../etc/passwd' has an empty, '.' or '..' segment
    """
    if type(location) is str and len(location) <= MAX_LOCATION_BYTES and _PLAIN.fullmatch(location):
        return location
    if not isinstance(location, str):
        raise InvalidLocationError(f"a location is a str, not {type(location).__name__}")
    shown = repr(location[:80])
    if not location:
        raise InvalidLocationError("a location may not be empty")
    if _CONTROL.search(location):
        raise InvalidLocationError(f"location {shown} has a control character or a lone surrogate")
    if len(location.encode()) > MAX_LOCATION_BYTES:
        raise InvalidLocationError(f"location {shown}... is longer than {MAX_LOCATION_BYTES} bytes of UTF-8")
    segments = location.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidLocationError(f"location {shown} has an empty, '.' or '..' segment")
    if segments[0] == INCOMING:
        raise InvalidLocationError(f"location {shown} lies in {INCOMING!r}, which is reserved for unfinished uploads")
    return location
