"""Statistics of stored files, as values, as JSON and as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from granite_storage.maintenance.wording import size_text, table

__all__ = ["SIZE_LIMITS", "UNKNOWN", "Amount", "FieldStats", "StorageStats", "size_label"]

SIZE_LIMITS = (2**10, 10 * 2**10, 100 * 2**10, 2**20, 10 * 2**20, 100 * 2**20, 2**30, 10 * 2**30)
"""Where one class of sizes ends and the next begins, in bytes."""

UNKNOWN = "unknown"
"""The content type, or the month, of a ref that tells none."""

_TOP = 10


@dataclass(frozen=True, slots=True)
class Amount:
    """How many files, and how many bytes they have together.

    >>> Amount(2, 300) + Amount(1, 50)
    Amount(count=3, bytes=350)
    """

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.bytes + other.bytes)


Amounts = Mapping[str, Amount]


def size_label(number: int) -> str:
    """The name of a class of sizes.

    >>> size_label(0), size_label(4), size_label(8)
    ('under 1 KiB', 'under 10 MiB', '10 GiB and more')
    """
    limits = [size_text(limit).replace(".0", "") for limit in SIZE_LIMITS]
    return f"under {limits[number]}" if number < len(limits) else f"{limits[-1]} and more"


@dataclass(slots=True)
class FieldStats:
    """The files of one field, under one policy, in one backend; in all databases that were asked.

    :param table: the table's name, with its schema where there is one.
    :param policy: the policy that they were stored under.
    :param backend: as the refs have it.
    """

    table: str
    column: str
    policy: str
    backend: str
    total: Amount = Amount()
    largest: int = 0
    """The largest file, in bytes."""
    types: dict[str, Amount] = field(default_factory=dict)
    """By content type."""
    months: dict[str, Amount] = field(default_factory=dict)
    """By the month (UTC) in which they were stored, such as ``"2026-11"``."""
    sizes: dict[str, Amount] = field(default_factory=dict)
    """By class of sizes, such as ``"under 10 MiB"``; those that are empty are left out."""

    def add(self, amount: Amount, largest: int, content_type: str, month: str, size: str) -> None:
        """Add files that have all of this in common."""
        self.total += amount
        self.largest = max(self.largest, largest)
        for group, name in ((self.types, content_type), (self.months, month), (self.sizes, size)):
            group[name] = group.get(name, Amount()) + amount

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, the largest types first."""
        return {
            "table": self.table,
            "column": self.column,
            "policy": self.policy,
            "backend": self.backend,
            "count": self.total.count,
            "bytes": self.total.bytes,
            "largest": self.largest,
            "types": _plain(_by_bytes(self.types)),
            "months": _plain(_in_time(self.months)),
            "sizes": _plain(_by_size(self.sizes)),
        }


@dataclass(frozen=True, slots=True)
class StorageStats:
    """What the rows of all databases that were asked say of their files.

    :param fields: one for each field, policy and backend, in the order of their names.
    :param unreadable: values in file fields that tell no location, or no size that is a whole number; they are counted
        nowhere else.
    """

    fields: tuple[FieldStats, ...]
    unreadable: int = 0

    @property
    def total(self) -> Amount:
        """All files."""
        return sum((one.total for one in self.fields), Amount())

    @property
    def policies(self) -> dict[str, Amount]:
        """By policy."""
        return self._summed(lambda one: {one.policy: one.total})

    @property
    def backends(self) -> dict[str, Amount]:
        """By backend."""
        return self._summed(lambda one: {one.backend: one.total})

    @property
    def types(self) -> dict[str, Amount]:
        """By content type, those with the most bytes first."""
        return _by_bytes(self._summed(lambda one: one.types))

    @property
    def months(self) -> dict[str, Amount]:
        """By the month in which they were stored, the oldest first."""
        return _in_time(self._summed(lambda one: one.months))

    @property
    def years(self) -> dict[str, Amount]:
        """By the year in which they were stored, the oldest first."""
        years: dict[str, Amount] = defaultdict(Amount)
        for month, amount in self.months.items():
            years[month if month == UNKNOWN else month[:4]] += amount
        return dict(years)

    @property
    def sizes(self) -> dict[str, Amount]:
        """By class of sizes, the smallest first."""
        return _by_size(self._summed(lambda one: one.sizes))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "count": self.total.count,
            "bytes": self.total.bytes,
            "unreadable": self.unreadable,
            "policies": _plain(self.policies),
            "backends": _plain(self.backends),
            "types": _plain(self.types),
            "months": _plain(self.months),
            "years": _plain(self.years),
            "sizes": _plain(self.sizes),
            "fields": [one.to_dict() for one in self.fields],
        }

    def __str__(self) -> str:
        """A table for people."""
        rows = [
            [f"{one.table}.{one.column}", one.policy, one.backend, *_cells(one.total), size_text(one.largest)]
            for one in self.fields
        ]
        largest = max((one.largest for one in self.fields), default=0)
        rows.append(["all", "", "", *_cells(self.total), size_text(largest)])
        tables = [table(["field", "policy", "backend", "files", "size", "largest"], rows, left=3)]
        types = list(self.types.items())
        shown = types[:_TOP]
        if len(types) > _TOP:
            shown.append((f"{len(types) - _TOP} other types", sum((one for _, one in types[_TOP:]), Amount())))
        parts: tuple[tuple[str, Iterable[tuple[str, Amount]]], ...] = (
            ("type", shown),
            ("stored in", self.years.items()),
            ("file size", self.sizes.items()),
        )
        for heading, amounts in parts:
            told = [[name, *_cells(amount)] for name, amount in amounts]
            if told:
                tables.append(table([heading, "files", "size"], told, left=1))
        if self.unreadable:
            tables.append(f"unreadable: {self.unreadable}")
        return "\n\n".join(tables)

    def _summed(self, part: Callable[[FieldStats], Amounts]) -> dict[str, Amount]:
        summed: dict[str, Amount] = defaultdict(Amount)
        for one in self.fields:
            for name, amount in part(one).items():
                summed[name] += amount
        return dict(summed)


def _plain(amounts: Amounts) -> dict[str, dict[str, int]]:
    return {name: {"count": amount.count, "bytes": amount.bytes} for name, amount in amounts.items()}


def _by_bytes(amounts: Amounts) -> dict[str, Amount]:
    return dict(sorted(amounts.items(), key=lambda item: (-item[1].bytes, item[0])))


def _in_time(amounts: Amounts) -> dict[str, Amount]:
    return dict(sorted(amounts.items()))  # letters come behind digits


def _by_size(amounts: Amounts) -> dict[str, Amount]:
    labels = [size_label(number) for number in range(len(SIZE_LIMITS) + 1)]
    return {label: amounts[label] for label in labels if label in amounts}


def _cells(amount: Amount) -> tuple[str, str]:
    return f"{amount.count}", size_text(amount.bytes)
