"""Judging what looks wrong: the store first, then every row, as both are now, and only then it is a finding.

What was compared in bulk may be old: a row may have got another file meanwhile, and its old object may be gone.
An object is always stored before its row is committed, and deleted only after; so an object that is missing, and that
a row which is read later still names, is missing indeed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from granite_storage.exceptions import StorageError
from granite_storage.maintenance.left_over import left_over, may_go
from granite_storage.maintenance.listing import stored_at
from granite_storage.maintenance.verify.looking import Problem, Seen, look, read_through
from granite_storage.maintenance.verify.naming import NamingRow, rows_naming
from granite_storage.maintenance.verify.report import Finding, FindingKind, VerifyReport
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.base import ObjectInfo
    from granite_storage.maintenance.places import FileColumnAt
    from granite_storage.manager import StorageManager
    from granite_storage.orm.references import Asking
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy

__all__ = ["Judge"]

_TOLD = 5
_HELD = 1000


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges, and by what.

    :param before: what was stored before this instant may be an orphan; None if nothing may.
    :param reports_unknown: the backend at which rows of a backend that nobody knows are reported, once.
    """

    manager: StorageManager
    sites: Collection[Site]
    asking: Asking
    columns: Sequence[FileColumnAt]
    report: VerifyReport
    before: datetime | None
    reports_unknown: str
    tell: Callable[[Sequence[Finding]], object]

    def judge(
        self,
        backend_key: str,
        locations: Sequence[str],
        listed: Mapping[str, ObjectInfo],
        policy: StoragePolicy | None,
        *,
        sized: bool,
    ) -> list[ObjectInfo]:
        """Judge locations of one backend, and tell what is wrong.

        :param listed: those of them that the store listed a moment ago.
        :param policy: whose orphans they are; None if nobody may tell.
        :param sized: whether the listing tells sizes.
        :returns: the orphans among them.
        """
        seen: dict[str, Seen] = {}
        if sized:
            seen = {location: listed[location].size for location in locations if location in listed}
        seen |= look(self.manager, backend_key, [one for one in locations if one not in seen])
        findings: list[Finding] = []
        names: Counter[str] = Counter()
        first: dict[str, list[NamingRow]] = defaultdict(list)
        whole: list[NamingRow] = []
        for row in self._rows(backend_key, locations, findings):
            problem = _compare(row, seen[row.location])
            if problem is not None and not (row.ref is None and (self.report.deep or not row.tells)):
                findings.append(_finding(problem[0], row, backend_key, problem[1]))
                if len(findings) >= _HELD:  # very many rows that name one object
                    self.tell(findings)
                    findings.clear()
            names[row.location] += 1
            if len(first[row.location]) < _TOLD:
                first[row.location].append(row)
                if problem is None:
                    whole.append(row)
        if self.report.deep:
            findings += self._read(backend_key, whole)
        findings += [_shared(first[location], backend_key, count) for location, count in names.items() if count > 1]
        orphans: list[ObjectInfo] = []
        if policy is not None:
            unnamed = [listed[location] for location in locations if location in listed and location not in names]
            orphans = self._judge_unnamed(policy, unnamed, findings)
        self.tell(findings)
        return orphans

    def _rows(self, backend_key: str, locations: Sequence[str], findings: list[Finding]) -> Iterator[NamingRow]:
        """The rows that name these locations at this backend, or may."""
        for at in self.columns:
            for row in rows_naming(at, locations):
                try:
                    key = backend_key if row.ref is None else self.manager.identity(row.ref)[0]
                except StorageError as error:
                    assert row.ref is not None
                    if backend_key == self.reports_unknown:
                        findings.append(_finding(FindingKind.UNKNOWN_BACKEND, row, row.ref.backend, str(error)))
                    continue
                if self.manager.same_store(key, backend_key):
                    yield row

    def _read(self, backend_key: str, rows: Sequence[NamingRow]) -> list[Finding]:
        """Read the objects of rows; what is wrong, of those rows that still say the same afterwards."""
        refs = [row.ref for row in rows if row.ref is not None]
        problems, size = read_through(self.manager, refs)
        self.report.bytes_read += size
        wrong = [(row, problem) for row, problem in zip(rows, problems, strict=True) if problem is not None]
        if not wrong:
            return []
        still = {_said(row) for row in self._rows(backend_key, sorted({row.location for row, _ in wrong}), findings=[])}
        return [_finding(problem[0], row, backend_key, problem[1]) for row, problem in wrong if _said(row) in still]

    def _judge_unnamed(
        self, policy: StoragePolicy, unnamed: Sequence[ObjectInfo], findings: list[Finding]
    ) -> list[ObjectInfo]:
        """Those of unnamed objects that are orphans."""
        manager, report = self.manager, self.report
        refs = {
            StoredObjectRef(policy.storage_key, policy.backend_key, one.location, one.size, ""): one for one in unnamed
        }
        if not refs:
            return []
        found = left_over(manager, self.sites, refs, self.asking)
        report.awaiting += found.awaiting
        # A row may just have freed it, and whoever freed it deleted it.
        there = look(manager, policy.backend_key, [ref.location for ref in found.orphans])
        orphans: list[ObjectInfo] = []
        for ref in found.orphans:
            one, size = refs[ref], there[ref.location]
            if isinstance(size, tuple):
                if size[0] is FindingKind.UNCHECKED:
                    findings.append(Finding(size[0], policy.backend_key, one.location, detail=size[1]))
                continue
            if may_go(one, policy.prefix, self.before, report, declared=bool(manager.references)):
                detail = f"stored {stored_at(one):%Y-%m-%d}" + ("" if size is None else f", {size} bytes")
                findings.append(Finding(FindingKind.ORPHAN, policy.backend_key, one.location, detail=detail))
                orphans.append(one)
        return orphans


def _compare(row: NamingRow, seen: Seen) -> Problem | None:
    if row.ref is None:
        return FindingKind.UNREADABLE, row.problem
    if isinstance(seen, tuple):
        return seen
    if seen is None or seen == row.ref.size:
        return None
    return FindingKind.SIZE, f"the row says {row.ref.size} bytes, and {seen} are there"


def _finding(kind: FindingKind, row: NamingRow, backend: str, detail: str) -> Finding:
    return Finding(kind, backend, row.location, row.at.table, row.at.column.name, row.key, detail)


def _shared(rows: Sequence[NamingRow], backend_key: str, count: int) -> Finding:
    others = [f"{row.at.table}.{row.at.column.name} {row.key}" for row in rows[1:]]
    if count > len(rows):
        others.append(f"{count - len(rows)} more")
    return _finding(FindingKind.SHARED, rows[0], backend_key, f"also named by {', '.join(others)}")


def _said(row: NamingRow) -> tuple[object, ...]:
    ref = row.ref
    return row.at, row.key, row.location, None if ref is None else (ref.size, ref.checksum)
