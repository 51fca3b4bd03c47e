"""What a conversion did, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ConversionReport", "OnProgress", "Progress", "RowFailure"]

_TOLD = 1000


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row that could not be converted, and is as it was.

    :param key: the values of its primary key.
    :param row: the row in words: table and primary key.
    :param error: what is wrong with it.
    """

    key: tuple[Any, ...]
    row: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.row}: {self.error}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is.

    :param rows: rows that are done, in this run.
    :param failed: rows that could not be converted, in this run.
    :param total: rows that there were to do when this run began.
    :param size: bytes of the files of the rows that are done.
    """

    rows: int
    failed: int
    total: int
    size: int

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.rows} of {self.total} rows, {self.size} bytes{failed}"


OnProgress = Callable[[Progress], object]
"""Called after each batch, once it is committed."""


@dataclass(slots=True)
class ConversionReport:
    """What one run of a conversion did.

    >>> str(ConversionReport(total=3, rows=2, size=2048, failed=1))
    'converted 2 of 3 rows, 2048 bytes; 1 failed'
    """

    total: int = 0
    """Rows that there were to do."""
    rows: int = 0
    """Rows that are done, and committed."""
    size: int = 0
    """Bytes of their files."""
    kept: int = 0
    """On the way back: rows whose old value was there still, so that it was not written again."""
    failed: int = 0
    """Rows that could not be converted, and are as they were."""
    failures: list[RowFailure] = field(default_factory=list)
    """The first 1 000 of them."""

    def fail(self, failure: RowFailure) -> None:
        """Note a row that could not be converted."""
        self.failed += 1
        if len(self.failures) < _TOLD:
            self.failures.append(failure)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self.rows, self.failed, self.total, self.size)

    def __str__(self) -> str:
        failed = f"; {self.failed} failed" if self.failed else ""
        return f"converted {self.rows} of {self.total} rows, {self.size} bytes{failed}"
