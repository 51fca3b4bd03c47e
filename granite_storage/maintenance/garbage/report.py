"""What a garbage collection found and did, or would do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from granite_storage.maintenance.report import Report
from granite_storage.maintenance.unreadable import UnreadableRef
from granite_storage.maintenance.wording import plural

__all__ = ["GarbageReport"]


@dataclass(slots=True)
class GarbageReport(Report):
    """The result of one collection; numbers are of objects, sizes are bytes.

    >>> str(GarbageReport(scanned=10, referenced=7, orphaned=3, orphaned_bytes=300, young=1))
    'scanned 10 objects: 7 referenced, 3 orphaned (300 bytes; 1 younger than the grace period); would delete 2'
    """

    dry_run: bool = True
    scanned: int = 0
    """Objects below the policies' prefixes, former ones included."""
    referenced: int = 0
    """Those that a row or a declared reference names."""
    awaiting: int = 0
    """Those that no row names and that stand in an outbox, which decides when they go."""
    orphaned: int = 0
    """All that nobody names, however young."""
    orphaned_bytes: int = 0
    oldest: datetime | None = None
    """When (UTC) the oldest orphan was stored; None where nobody can tell."""
    young: int = 0
    """Orphans younger than the grace period, or of unknown age: a transaction may yet commit their rows."""
    undeclared: int = 0
    """Orphans that ``put_bytes()``, ``put_stream()`` or another program stored, where nobody declared what names them;
    and those of our own layout below a folder of the prefix, which is somebody else's."""
    deleted: int = 0
    """Orphans that were deleted; 0 with ``dry_run``."""
    deleted_bytes: int = 0
    failed: int = 0
    """Orphans whose deletion failed, and what could not be cleaned up; another run tries again."""
    leftovers: int = 0
    """Temporary files, empty day folders and unfinished multipart uploads that were removed (or would be)."""
    unreadable: tuple[UnreadableRef, ...] = ()
    """Rows that stop all deletion, since they name nobody knows what (the first 100 of them)."""

    def add(self, other: GarbageReport) -> None:
        """Count what another found, too: of another part of the store."""
        self.add_numbers(other)
        if other.oldest is not None:
            self.oldest = min(other.oldest, self.oldest or other.oldest)

    @property
    def deletable(self) -> int:
        """The orphans that are old enough, and whose references are all declared."""
        return self.orphaned - self.young - self.undeclared

    @property
    def complete(self) -> bool:
        """Whether all that there was to do was done."""
        return not (self.refused or self.failed or self.unreadable)

    @property
    def summary(self) -> str:
        """One line, without what was refused."""
        notes = [f"{self.orphaned_bytes} bytes"]
        if self.young:
            notes.append(f"{self.young} younger than the grace period")
        if self.undeclared:
            notes.append(f"{self.undeclared} whose references nobody declared")
        parts = [f"{self.referenced} referenced"]
        if self.awaiting:
            parts.append(f"{self.awaiting} in the outbox")
        parts.append(f"{self.orphaned} orphaned ({'; '.join(notes)})")
        text = f"scanned {self.scanned} object{plural(self.scanned)}: {', '.join(parts)}; "
        text += f"would delete {self.deletable}" if self.dry_run else f"deleted {self.deleted}"
        if self.leftovers:
            text += f", {self.leftovers} leftover{plural(self.leftovers)}"
        if self.failed:
            text += f", {self.failed} failed"
        if self.unreadable:
            text += f", {len(self.unreadable)} unreadable ref{plural(len(self.unreadable))}"
        return text
