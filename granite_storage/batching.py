"""Cutting a list into batches, as :func:`itertools.batched` does since Python 3.12."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["batched"]

_T = TypeVar("_T")


def batched(several: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """What there is, in its order, at most ``size`` at once.

    >>> list(batched("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for start in range(0, len(several), size):
        yield several[start : start + size]
