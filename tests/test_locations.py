"""Making, checking and reading locations."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.exceptions import InvalidLocationError
from granite_storage.locations import MAX_LOCATION_BYTES, check_location, location_time, new_location, uuid7
from granite_storage.testing.strategies import locations

# Up to the end of the year 9999, which is where datetime ends.
MILLISECONDS = st.integers(min_value=0, max_value=253_402_300_799_999)


@given(MILLISECONDS, MILLISECONDS)
def test_lexicographic_order_is_time_order(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    if earlier != later:
        assert new_location("docs", ".z", milliseconds=earlier) < new_location("docs", milliseconds=later)
        assert uuid7(earlier) < uuid7(later)


@given(MILLISECONDS)
def test_a_location_tells_its_time_to_the_millisecond(milliseconds: int) -> None:
    instant = location_time(new_location("a/b", ".txt", milliseconds=milliseconds))
    assert instant == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


@given(MILLISECONDS)
def test_the_date_in_a_location_is_that_of_its_uuid_in_utc(milliseconds: int) -> None:
    location = new_location("docs", milliseconds=milliseconds)
    instant = location_time(location)
    assert instant is not None
    assert location.split("/")[1:4] == [f"{instant.year:04}", f"{instant.month:02}", f"{instant.day:02}"]


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_a_uuid7_has_the_version_variant_and_time_of_rfc_9562(milliseconds: int) -> None:
    made = uuid7(milliseconds)
    assert made.int >> 80 == milliseconds
    assert made.int >> 76 & 0xF == 7
    assert made.int >> 62 & 0b11 == 0b10


def test_all_74_other_bits_of_a_uuid7_are_random() -> None:
    always, ever = (1 << 128) - 1, 0
    for _ in range(200):  # that a bit never varies by chance: 74 * 2**-199
        made = uuid7(0).int
        always, ever = always & made, ever | made
    assert (ever & ~always).bit_count() == 74


def test_locations_of_one_millisecond_do_not_collide() -> None:
    assert len({new_location("docs", milliseconds=1) for _ in range(1000)}) == 1000


def test_by_default_a_location_is_of_now() -> None:
    before = time.time_ns() // 1_000_000
    instant = location_time(new_location("docs"))
    after = time.time_ns() // 1_000_000
    assert instant is not None
    assert before <= instant.timestamp() * 1000 <= after + 1


def test_a_location_is_prefix_date_uuid_and_suffix() -> None:
    location = new_location("team/docs", ".pdf", milliseconds=1_700_000_000_000)
    assert location.startswith("team/docs/2023/11/14/018bcfe5-6800-7")
    assert location.endswith(".pdf")
    assert location.count("/") == 5


@given(locations())
def test_every_location_that_is_made_passes_the_check(location: str) -> None:
    assert check_location(location) == location


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/etc/passwd",
        "..",
        ".",
        "../x",
        "docs/../../x",
        "docs/./x",
        "docs//x",
        "docs/",
        "docs/a\0b",
        "docs/a\nb",
        "docs/a\x7fb",
        "docs/a\ud800b",
        "docs/" + "a" * MAX_LOCATION_BYTES,
        "docs/" + "é" * (MAX_LOCATION_BYTES // 2),
        ".incoming/x",
        ".incoming",
    ],
)
def test_a_hostile_location_is_refused(location: str) -> None:
    with pytest.raises(InvalidLocationError):
        check_location(location)


@pytest.mark.parametrize("value", [None, b"docs/a", 1])
def test_what_is_no_str_is_no_location(value: object) -> None:
    with pytest.raises(InvalidLocationError, match=type(value).__name__):
        check_location(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("location", ["docs/..a", "docs/a..b", "docs/.hidden", "docs/.incoming/x", "a b/ü", "x" * 1024])
def test_an_unusual_but_safe_location_passes(location: str) -> None:
    assert check_location(location) == location


@pytest.mark.parametrize(("prefix", "suffix"), [("..", ""), ("/docs", ""), ("", ""), ("docs", "/x/.."), ("docs", "\0")])
def test_a_hostile_prefix_or_suffix_makes_no_location(prefix: str, suffix: str) -> None:
    with pytest.raises(InvalidLocationError):
        new_location(prefix, suffix)


@pytest.mark.parametrize(
    "location",
    [
        "document/42-deadbeef.pdf",
        "docs/018bcfe5-6800-4000-8000-000000000000",  # version 4
        "docs/018bcfe5-6800-7000-0000-000000000000",  # not RFC 9562's variant
        "docs/018bcfe5-6800-7000-8000-000000000000/x",  # a folder
        "docs/x018bcfe5-6800-7000-8000-000000000000",
        "docs/ffffffff-ffff-7000-8000-000000000000",  # after the year 9999
    ],
)
def test_a_location_without_a_uuid7_tells_no_time(location: str) -> None:
    assert location_time(location) is None
