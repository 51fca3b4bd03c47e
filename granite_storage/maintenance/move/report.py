"""What a move did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field

from granite_storage.maintenance.report import Report
from granite_storage.maintenance.wording import plural

__all__ = ["FINDINGS_TOLD", "MoveFinding", "MoveReport"]

FINDINGS_TOLD = 100
"""How many rows a report names at most."""


@dataclass(frozen=True, slots=True)
class MoveFinding:
    """A row whose file was not moved.

    :param column: ``table.column``.
    :param key: the row's primary key.
    :param problem: why, and the remedy.
    """

    column: str
    key: tuple[object, ...]
    problem: str


@dataclass(slots=True)
class MoveReport(Report):
    """The result of one move; numbers are of files, sizes are bytes.

    >>> print(MoveReport(moved=2, moved_bytes=300, deleted=2, raced=1))
    moved 2 files (300 bytes), deleted 2 old objects; 1 changed meanwhile
    """

    dry_run: bool = False
    moved: int = 0
    """Files whose rows name the new object now; with ``dry_run`` those that would be moved."""
    moved_bytes: int = 0
    on_server: int = 0
    """Those of them that the store copied by itself."""
    deleted: int = 0
    """Old objects that are gone already. The others stand in the outbox: retained, or to be tried again by a sweep."""
    raced: int = 0
    """Rows that were deleted, or given another file, while theirs was copied: they have nothing left to move."""
    skipped: int = 0
    """Files that the target policy does not take; ``findings`` says why."""
    failed: int = 0
    """Files that could not be moved; ``findings`` says why, and another run tries again."""
    findings: list[MoveFinding] = field(default_factory=list)
    """The first 100 rows of those that were skipped or failed."""

    def add(self, other: MoveReport) -> None:
        """Count what another did, too: with other rows."""
        self.add_numbers(other)
        self.findings += other.findings[: FINDINGS_TOLD - len(self.findings)]

    @property
    def complete(self) -> bool:
        """Whether all that there was to move was moved."""
        return not (self.refused or self.failed or self.skipped)

    def add_skipped(self, finding: MoveFinding) -> None:
        """Count a file that the target policy does not take, and name its row if there is room."""
        self.skipped += 1
        self._add(finding)

    def add_failed(self, finding: MoveFinding) -> None:
        """Count a file that could not be moved, and name its row if there is room."""
        self.failed += 1
        self._add(finding)

    def _add(self, finding: MoveFinding) -> None:
        if len(self.findings) < FINDINGS_TOLD:
            self.findings.append(finding)

    @property
    def summary(self) -> str:
        """One line, without what was refused."""
        files = f"{self.moved} file{plural(self.moved)} ({self.moved_bytes} bytes)"
        parts = [f"would move {files}" if self.dry_run else f"moved {files}"]
        if not self.dry_run:
            parts[0] += f", deleted {self.deleted} old object{plural(self.deleted)}"
        if self.raced:
            parts.append(f"{self.raced} changed meanwhile")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return "; ".join(parts)
