"""How large the parts of a multipart upload are: S3 takes 10 000 of them, and 5 TiB in all."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LARGEST_OBJECT", "MAX_PARTS", "part_sizes"]

MAX_PARTS = 10_000
"""The most parts of an object: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html, as the next two."""

LARGEST_OBJECT = 5 * 1024**4
"""Bytes."""

_LARGEST_PART = 5 * 1024**3
_EQUAL = 1000


def part_sizes(part_size: int, size: int | None = None) -> Iterator[int]:
    """The sizes of an object's parts in bytes, the last of which may have less; 10 000 at most.

    They are equal if the object's size is known, and as large as that many need. If it is not they double every
    thousand parts, which reaches 5 TiB.

    :param part_size: bytes that a part has at least.

    >>> next(part_sizes(8 * 2**20)), next(part_sizes(8 * 2**20, 10**12))
    (8388608, 100000000)
    >>> sum(part_sizes(8 * 2**20)) > LARGEST_OBJECT
    True
    """
    if size is not None:
        part_size = max(part_size, -(-size // MAX_PARTS))
    for number in range(MAX_PARTS):
        doubled = 0 if size is not None else number // _EQUAL
        yield min(part_size << doubled, max(_LARGEST_PART, part_size))
