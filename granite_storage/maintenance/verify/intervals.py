"""How a backend's locations are cut into intervals: those below a policy's prefix, which are listed, and others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from granite_storage.maintenance.ranges import LocationRange, whole
from granite_storage.maintenance.verify.naming import END, Said

if TYPE_CHECKING:
    from granite_storage.backends.base import ObjectInfo
    from granite_storage.policies import StoragePolicy

__all__ = ["Interval", "Stretch", "intervals_of", "stretches"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The locations behind ``after`` up to ``upto``, in byte order; all of them below one prefix, or none.

    :param listed: the same as a range of what the store lists; None where nothing is listed.
    """

    after: str
    upto: str
    listed: LocationRange | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an interval: the objects that the store has there, and what rows say.

    :param after: behind which location it begins.
    :param odd: a location of which not all rows may be in ``said``, at which the stretch ends.
    """

    after: str
    listed: Sequence[ObjectInfo]
    said: Sequence[Said]
    odd: frozenset[str] = frozenset()


def intervals_of(policies: Iterable[StoragePolicy], *, between: bool) -> Iterator[Interval]:
    """The intervals of one backend, which touch and do not overlap.

    :param between: whether those between and beside the prefixes are wanted, too.

    >>> from granite_storage import StoragePolicy
    >>> for one in intervals_of([StoragePolicy("docs", "s3"), StoragePolicy("covers", "s3")], between=True):
    ...     print(repr(one.after), repr(one.upto), one.listed and one.listed.storage_key)
    '' 'covers/' None
    'covers/' 'covers0' covers
    'covers0' 'docs/' None
    'docs/' 'docs0' docs
    'docs0' '\\U0010ffff' None
    """
    done = ""
    for policy in sorted(policies, key=lambda policy: f"{policy.prefix}/"):
        after, upto = f"{policy.prefix}/", f"{policy.prefix}0"  # "0" comes right behind "/"
        if after < done:  # inside the one before, or the same
            continue
        if between:
            yield Interval(done, after)
        yield Interval(after, upto, whole(policy))
        done = upto
    if between:
        yield Interval(done, END)


def stretches(
    interval: Interval,
    listings: Iterable[Sequence[ObjectInfo]],
    size: int,
    page: Callable[[str, str, int], list[Said]],
) -> Iterator[Stretch]:
    """Put what is listed beside what rows say, a stretch at a time.

    :param listings: what the store has in the interval, in byte order, at most ``size`` objects at once.
    :param page: gives the first rows behind one location up to another.
    """
    after = interval.after
    for listed in listings:
        if len(listed) == size:  # there may be more
            yield from _cut(after, listed[-1].location, listed, size, page)
            after = listed[-1].location
        elif listed:
            yield from _cut(after, interval.upto, listed, size, page)
            return
    yield from _cut(after, interval.upto, (), size, page)


def _cut(
    after: str, upto: str, listed: Sequence[ObjectInfo], size: int, page: Callable[[str, str, int], list[Said]]
) -> Iterator[Stretch]:
    """Where rows name far more than there is, there is more than one page of them."""
    limit, begin = 2 * size, 0
    while len(said := page(after, upto, limit)) == limit:
        last = said[-1][0]
        end = bisect_right(listed, last, begin, key=attrgetter("location"))
        yield Stretch(after, listed[begin:end], said, frozenset({last}))  # more rows may name the last
        after, begin = last, end
    yield Stretch(after, listed[begin:], said)
