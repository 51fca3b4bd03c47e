"""Orphans, on disk until all are known; then, for a repair, handed to the outbox, which the next sweep works off."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from granite_storage.maintenance.brake import Brake, any_reference
from granite_storage.maintenance.left_over import left_over
from granite_storage.maintenance.places import with_outbox
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.orm.changes import Free
from granite_storage.orm.outbox import outbox_of, write_freed
from granite_storage.orm.references import Asking, ref_columns
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.base import ObjectInfo
    from granite_storage.maintenance.verify.report import VerifyReport
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.orm.type import StoredObjectRefType
    from granite_storage.policies import StoragePolicy

__all__ = ["Orphans"]

_BATCH = 1000


class Orphans:
    """What nobody names, and is old enough.

    :param policies: whose prefixes are this manager's, so that orphans may go.
    :param stopped: whether a row that nobody can read may name an orphan, so that all stay.
    """

    def __init__(
        self,
        manager: StorageManager,
        sites: Collection[Site],
        asking: Asking,
        policies: list[StoragePolicy],
        stopped: bool,
        report: VerifyReport,
    ) -> None:
        self.policies = policies
        self._manager, self._sites, self._asking = manager, sites, asking
        self._stopped, self._report = stopped, report
        self._spool = LocationSpool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add(self, policy: StoragePolicy | None, objects: Iterable[ObjectInfo]) -> None:
        """Take orphans of a policy."""
        if policy is not None and self._report.repair:
            self._spool.add(objects, self.policies.index(policy))

    def hand_over(self, *, force: bool) -> None:
        """Write them to the outbox, if the brake lets go.

        :param force: the explicit word, where the brake would keep them.
        """
        if self.may_go(len(self._spool), force=force):
            self.write()

    def may_go(self, count: int, *, force: bool) -> bool:
        """Whether so many of all objects may go; the report says why if not."""
        report = self._report
        brake = Brake(force, "objects", "verify(repair=True, force=True)", report.objects, count)
        if brake.pulled:
            report.refused.append(brake.reason)
            return False
        if count and not force and not report.rows and not any_reference(self._sites):
            report.refused.append(brake.no_reference)
            return False
        return True

    def outbox_for(self, policy: StoragePolicy) -> Site | None:
        """The site whose outbox takes a policy's orphans; None, and the report says why, if they must stay."""
        if self._stopped:
            self._report.refuse(
                f"policy {policy.storage_key!r}: orphans stay, since rows that nobody can read may name one of "
                "them; mend or convert those (the findings of kind 'unreadable')"
            )
            return None
        site = self._outbox_for(policy)
        if site is None:
            self._report.refuse(
                f"policy {policy.storage_key!r}: orphans stay, since there is no outbox to hand them to; "
                "StorageGarbageCollector(manager).collect(dry_run=False) deletes them"
            )
        return site

    def write(self) -> None:
        """Ask once more who names them, and write what is still nobody's to the outbox, in short transactions."""
        for number, batch in self._spool.batches(_BATCH):
            policy = self.policies[number]
            site = self.outbox_for(policy)
            if site is None:
                continue
            refs = [
                StoredObjectRef(policy.storage_key, policy.backend_key, one.location, one.size, "") for one in batch
            ]
            sure = left_over(self._manager, self._sites, refs, self._asking).orphans
            outbox = outbox_of(site.metadata)
            assert outbox is not None
            with site.desk() as desk:
                write_freed(desk.connection, outbox, [Free(self._manager, site, ref, "verify") for ref in sure])
                desk.connection.commit()
            self._report.repaired += len(sure)

    def _outbox_for(self, policy: StoragePolicy) -> Site | None:
        """The site whose outbox takes a policy's objects: one that has file fields of it, if there is one."""
        sites = with_outbox(self._sites)
        for site in sites:
            used = {cast("StoredObjectRefType", column.type).policy for column in ref_columns(site.metadata)}
            if policy.storage_key in used:
                return site
        return sites[0] if sites else None
