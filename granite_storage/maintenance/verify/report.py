"""What a verification found, one by one and in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from granite_storage.maintenance.report import Report
from granite_storage.maintenance.wording import plural

__all__ = ["Finding", "FindingKind", "VerifyReport", "VerifyStatus"]

_KEPT = 100


class FindingKind(StrEnum):
    """What is wrong."""

    MISSING = "missing"
    """A row names an object that is not there."""
    SIZE = "size"
    """An object has another size than the row says."""
    CHECKSUM = "checksum"
    """An object has another checksum than the row says (``deep``)."""
    SHARED = "shared"
    """Several rows name one object."""
    UNREADABLE = "unreadable"
    """A row holds something that is no ref."""
    UNKNOWN_BACKEND = "unknown-backend"
    """A row names a backend that the manager does not have."""
    NO_CHECKSUM = "no-checksum"
    """A row's checksum is of no algorithm that Python has, so that nobody can compare it (``deep``)."""
    ORPHAN = "orphan"
    """Nothing names an object, which is older than the grace period."""
    OUTBOX_NAMED = "outbox-named"
    """The outbox has an object for free, and a row names it."""
    OUTBOX_GONE = "outbox-gone"
    """The outbox has an object for free that is gone."""
    UNCHECKED = "unchecked"
    """The store did not tell whether an object is there, or failed while it was read."""


_REMEDIES = {
    FindingKind.MISSING: "restore the object from a backup of the store, or give the row another file, or none",
    FindingKind.SIZE: "restore the object from a backup of the store; nothing overwrites objects, so look who did",
    FindingKind.CHECKSUM: "restore the object from a backup of the store, and look at its disks",
    FindingKind.SHARED: "assign the file anew in all rows but one: manager.copy() makes an object for each",
    FindingKind.UNREADABLE: "mend the value, convert it, or set it to NULL",
    FindingKind.UNKNOWN_BACKEND: "give the manager a backend of that name, or write the right name into the refs",
    FindingKind.NO_CHECKSUM: "store the file anew, so that its ref gets a checksum",
    FindingKind.ORPHAN: "repair=True hands it to the outbox, for the next sweep to delete",
    FindingKind.OUTBOX_NAMED: "repair=True removes the row of the outbox",
    FindingKind.OUTBOX_GONE: "repair=True removes the row of the outbox",
    FindingKind.UNCHECKED: "look at what the store says, and verify again",
}
_REPAIRABLE = frozenset({FindingKind.ORPHAN, FindingKind.OUTBOX_NAMED, FindingKind.OUTBOX_GONE})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. It holds no filename and no secret.

    :param kind: what is wrong.
    :param backend: the manager's name for the backend; as the row has it if the manager has none of that name.
    :param location: where the object is, or should be; None if the row does not tell.
    :param table: the row's table, with its schema; None for an object that no row names.
    :param column: the row's file column.
    :param key: the row's primary key.
    :param detail: what was seen, in words.

    >>> print(Finding(FindingKind.SIZE, "s3", "docs/a.txt", "document", "report", (7,), "5 bytes, and 4 are there"))
    size: document.report (7,) s3:docs/a.txt: 5 bytes, and 4 are there
    """

    kind: FindingKind
    backend: str | None
    location: str | None
    table: str | None = None
    column: str | None = None
    key: tuple[object, ...] = ()
    detail: str = ""

    @property
    def repairable(self) -> bool:
        """Whether ``repair=True`` sets it right; else it needs a person."""
        return self.kind in _REPAIRABLE

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain JSON data; what JSON has no type for in a key is its text."""
        return {
            "kind": self.kind.value,
            "table": self.table,
            "column": self.column,
            "key": [one if isinstance(one, (str, int, float, type(None))) else str(one) for one in self.key],
            "backend": self.backend,
            "location": self.location,
            "detail": self.detail,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        row = "" if self.table is None else f" {self.table}.{self.column} {self.key}"
        place = "" if self.location is None else f" {self.backend}:{self.location}"
        return f"{self.kind}:{row}{place}" + (f": {self.detail}" if self.detail else "")


class VerifyStatus(StrEnum):
    """How a verification ended."""

    CLEAN = "clean"
    FOUND = "found"
    """Something is wrong that was not repaired."""
    FAILED = "failed"
    """Not everything could be looked at, or repaired."""


@dataclass(slots=True)
class VerifyReport(Report):
    """The result of one verification; sizes are bytes.

    >>> report = VerifyReport(rows=9, objects=10)
    >>> report.add_finding(Finding(FindingKind.ORPHAN, "s3", "docs/b.txt"))
    >>> str(report), report.status.value, report.exit_status
    ('verified 9 rows and 10 objects: 1 orphan', 'found', 1)
    """

    deep: bool = False
    repair: bool = False
    rows: int = 0
    """Refs in rows that were compared."""
    objects: int = 0
    """Objects below the policies' prefixes, former ones included."""
    bytes_read: int = 0
    """How much was read of objects (``deep``)."""
    counts: Counter[FindingKind] = field(default_factory=Counter)
    """How much was found of each kind."""
    findings: list[Finding] = field(default_factory=list)
    """The first 100 findings; ``found=`` is called with all of them."""
    young: int = 0
    """Objects that nothing names, younger than the grace period or of unknown age: their rows may yet be committed."""
    awaiting: int = 0
    """Objects that nothing names and that stand in an outbox, which decides when they go."""
    undeclared: int = 0
    """Objects that nothing names and that ``put_bytes()``, ``put_stream()`` or another program stored, where nobody
    declared what names them; and those of our own layout below a folder of the prefix, which is somebody else's."""
    repaired: int = 0
    """Findings that were set right (``repair``)."""

    def add(self, other: VerifyReport) -> None:
        """Count what another found, too: of another part of the store."""
        self.add_numbers(other)
        self.counts += other.counts
        self.findings += other.findings[: _KEPT - len(self.findings)]

    def add_finding(self, finding: Finding) -> None:
        """Count a finding, and keep it if there is room."""
        self.counts[finding.kind] += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)

    @property
    def failed(self) -> int:
        """Objects at which the store did not let anybody look."""
        return self.counts[FindingKind.UNCHECKED]

    @property
    def found(self) -> int:
        """How much is wrong, what was repaired included."""
        return self.counts.total() - self.failed

    @property
    def needs_person(self) -> int:
        """How much of it no repair sets right."""
        return sum(count for kind, count in self.counts.items() if kind not in _REPAIRABLE) - self.failed

    @property
    def complete(self) -> bool:
        """Whether everything was looked at, and all was done that was asked for."""
        return not (self.refused or self.failed)

    @property
    def status(self) -> VerifyStatus:
        """Clean, found or failed; what was repaired is found no more."""
        if not self.complete:
            return VerifyStatus.FAILED
        return VerifyStatus.FOUND if self.found > self.repaired else VerifyStatus.CLEAN

    @property
    def exit_status(self) -> int:
        """The status as a command's exit status: 0 clean, 1 found, 2 failed."""
        return list(VerifyStatus).index(self.status)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {
            "status": self.status.value,
            "deep": self.deep,
            "repair": self.repair,
            "rows": self.rows,
            "objects": self.objects,
            "bytes_read": self.bytes_read,
            "counts": {kind.value: self.counts[kind] for kind in FindingKind},
            "young": self.young,
            "awaiting": self.awaiting,
            "undeclared": self.undeclared,
            "repaired": self.repaired,
            "refused": list(self.refused),
            "findings": [one.to_dict() for one in self.findings],
        }

    @property
    def summary(self) -> str:
        """One line, without what was refused."""
        text = f"verified {self.rows} row{plural(self.rows)} and {self.objects} object{plural(self.objects)}"
        if self.deep:
            text += f" ({self.bytes_read} bytes read)"
        found = [f"{self.counts[kind]} {_PHRASES.get(kind, kind.value)}" for kind in FindingKind if self.counts[kind]]
        well = "all is well" if self.complete else "nothing is wrong with what was looked at"
        parts = [f"{text}: {', '.join(found) or well}"]
        if self.repaired:
            parts.append(f"{self.repaired} repaired")
        return "; ".join(parts)


_PHRASES = {
    FindingKind.SIZE: "of another size",
    FindingKind.CHECKSUM: "of another checksum",
    FindingKind.SHARED: "shared by several rows",
    FindingKind.UNKNOWN_BACKEND: "of an unknown backend",
    FindingKind.NO_CHECKSUM: "of no known checksum",
    FindingKind.OUTBOX_NAMED: "in the outbox and named",
    FindingKind.OUTBOX_GONE: "in the outbox and gone",
}
