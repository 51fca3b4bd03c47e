"""What a sweep did, or would do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from granite_storage.maintenance.report import Report
from granite_storage.maintenance.wording import plural

__all__ = ["StuckObject", "SweepReport"]


@dataclass(frozen=True, slots=True)
class StuckObject:
    """A freed object that the backend refuses to delete, again and again: look at its permissions or locks."""

    backend: str
    location: str
    attempts: int
    last_error: str | None


@dataclass(slots=True)
class SweepReport(Report):
    """The result of one sweep; numbers are of objects.

    >>> str(SweepReport(freed=2, orphans=1))
    'swept: 2 freed objects deleted, 1 left-over upload deleted of 0 looked at, 0 leftovers removed'
    """

    dry_run: bool = False
    freed: int = 0
    """Freed objects of the outbox that were deleted (with ``dry_run``: that are due)."""
    named: int = 0
    """Objects of the outbox that something names again: their outbox rows are gone, they stay."""
    scanned: int = 0
    """Recent objects that were looked at, of those older than the grace period."""
    orphans: int = 0
    """Uploads that no row names and that were deleted (with ``dry_run``: that would be)."""
    deleted_bytes: int = 0
    """Bytes of all that was deleted, as far as they are known."""
    failed: int = 0
    """Objects whose deletion failed; a later sweep tries again."""
    leftovers: int = 0
    """Temporary files, empty day folders and unfinished multipart uploads that were removed."""
    stuck: tuple[StuckObject, ...] = ()
    """Freed objects that could not be deleted many times (the first 1 000 of them)."""
    watermark: datetime | None = None
    """The instant (UTC) up to which all uploads are judged now."""

    @property
    def complete(self) -> bool:
        """Whether all that there was to do was done."""
        return not (self.refused or self.failed or self.stuck)

    @property
    def summary(self) -> str:
        """One line, without what was refused."""
        would = "would be " if self.dry_run else ""
        parts = [
            f"{self.freed} freed object{plural(self.freed)} {would}deleted",
            f"{self.orphans} left-over upload{plural(self.orphans)} {would}deleted of {self.scanned} looked at",
            f"{self.leftovers} leftover{plural(self.leftovers)} {would}removed",
        ]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.stuck:
            parts.append(f"{len(self.stuck)} stuck")
        return "swept: " + ", ".join(parts)
