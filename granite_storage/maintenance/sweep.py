"""The sweep: finish what the outbox and recent uploads left over.

1. Refuse replicas, and prefixes that bear the mark of another owner or of a database that is not asked.
2. The outbox: delete what is due, batch by batch, as the end of a transaction does.
3. Recent uploads: list the days since the watermark, and delete what is older than the grace period and named by no
   row: a transaction that stored it never committed.
4. Leftovers of unfinished uploads, and empty day folders.
5. Note the watermark.

It may be cut off anywhere, run twice, or on two machines at once: nothing depends on what it remembers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from granite_storage.batching import batched
from granite_storage.events import StorageEvent
from granite_storage.exceptions import ConfigurationError, StorageError
from granite_storage.maintenance.brake import Brake, any_reference
from granite_storage.maintenance.horizon import PreparedTransactionsError, earliest_now, horizon, refuse_replicas
from granite_storage.maintenance.left_over import delete_left_over, left_over
from granite_storage.maintenance.leftovers import remove_leftovers
from granite_storage.maintenance.own_prefixes import own_prefixes
from granite_storage.maintenance.places import mark_prefixes, sites_of, sources_at, with_outbox
from granite_storage.maintenance.recent import recent_uploads
from granite_storage.maintenance.sweep_report import StuckObject, SweepReport
from granite_storage.orm.discarding import STUCK_ATTEMPTS, work_off
from granite_storage.orm.outbox import OutboxRow, due_after, is_due, outbox_of, retain_unset
from granite_storage.orm.references import Asking, Identity, declared_among
from granite_storage.orm.registry import registry_of, set_watermark, watermark

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site
    from granite_storage.policies import StoragePolicy
    from granite_storage.refs import StoredObjectRef

__all__ = ["sweep"]

_FIRST_LOOK = timedelta(days=7)  # how far before the horizon the first sweep of a database begins
_BATCH = 1000
_HELD = 10_000  # orphans that are remembered before some are deleted
_STUCK_TOLD = 1000
_log = logging.getLogger("granite_storage")


def sweep(
    manager: StorageManager,
    engine: Any = None,
    *,
    grace: timedelta | None = None,
    since: datetime | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> SweepReport:
    """Sweep; see :meth:`granite_storage.StorageManager.sweep`."""
    began = perf_counter()
    if since is not None and since > datetime.now(UTC):
        raise ConfigurationError(
            f"since= is the instant to list uploads from, and {since:%Y-%m-%d %H:%M} is not past yet"
        )
    sites = sites_of(manager, engine)
    refuse_replicas(sites)
    if grace is not None and grace < manager.grace:
        _log.warning(
            "a sweep with a grace period of %s, shorter than the manager's %s: uploads of transactions that are "
            "still open may be deleted",
            grace,
            manager.grace,
        )
    report = SweepReport(dry_run=dry_run)
    asking = Asking(sources_at(sites))
    for site in with_outbox(sites):
        _sweep_outbox(manager, site, asking, report)
    period = manager.grace if grace is None else grace
    own, refused = own_prefixes(manager, sites, manager.policies.values(), dry_run=dry_run)
    report.refused += refused
    if not dry_run:
        mark_prefixes(manager, sites, own)
    past = earliest_now(sites) - period
    try:
        before = horizon(manager, sites, past)
    except PreparedTransactionsError as waiting:
        report.refused.append(f"recent uploads: {waiting}")
    else:
        _sweep_recent(manager, sites, asking, own, before, since, period, force, report)
    report.leftovers, failed = remove_leftovers(manager, own, past, dry_run=dry_run)
    report.failed += failed
    if not dry_run:
        done, seconds = report.freed + report.orphans, perf_counter() - began
        event = StorageEvent("swept", "", bytes=report.deleted_bytes, objects=done, seconds=seconds)
        manager.events.tell(event, str(report))
    return report


def _sweep_outbox(manager: StorageManager, site: Site, asking: Asking, report: SweepReport) -> None:
    outbox = outbox_of(site.metadata)
    assert outbox is not None
    with site.desk() as desk:
        if report.dry_run:
            report.freed += desk.connection.scalar(select(func.count()).where(is_due(outbox, manager.retained()))) or 0
        else:
            for policy, retain in manager.retained().items():
                retain_unset(desk.connection, outbox, policy, retain)
    if not report.dry_run:
        _work_off_all(manager, site, asking, report)
    with site.desk() as desk:
        hopeless = (
            select(outbox.c.backend, outbox.c.location, outbox.c.attempts, outbox.c.last_error)
            .where(outbox.c.attempts >= STUCK_ATTEMPTS)
            .order_by(outbox.c.id)
            .limit(_STUCK_TOLD)
        )
        stuck = tuple(StuckObject(*row) for row in desk.connection.execute(hopeless))
    report.stuck += stuck
    if stuck:
        _log.error(
            "%d freed objects cannot be deleted, such as %s:%s after %d attempts: %s",
            len(stuck),
            stuck[0].backend,
            stuck[0].location,
            stuck[0].attempts,
            stuck[0].last_error,
        )


def _work_off_all(manager: StorageManager, site: Site, asking: Asking, report: SweepReport) -> None:
    """Batch by batch; declared references are asked for each before its rows are claimed."""
    outbox = outbox_of(site.metadata)
    assert outbox is not None
    last: int | None = 0
    while last is not None:
        due = None
        if manager.references:
            with site.desk() as desk:
                due = due_after(desk.connection, outbox, last, manager.retained())
            asking = asking.keeping(declared_among(manager, _identities(manager, due), manager.references))
        locations = None if due is None else {row.location for row in due}
        with site.desk() as desk:
            done = work_off(manager, site, desk, asking, after=last, locations=locations)
        report.freed += len(done.deleted)
        report.deleted_bytes += sum(ref.size for ref in done.deleted)
        report.named += done.named
        report.failed += done.postponed
        last = max((row.id for row in (done.rows if due is None else due)), default=None)


def _identities(manager: StorageManager, rows: Iterable[OutboxRow]) -> set[Identity]:
    found = set()
    for row in rows:
        if row.ref is not None:
            with suppress(StorageError):  # one of a backend that nobody knows stays anyway
                found.add(manager.identity(row.ref))
    return found


def _sweep_recent(
    manager: StorageManager,
    sites: list[Site],
    asking: Asking,
    policies: list[StoragePolicy],
    before: datetime,
    since: datetime | None,
    period: timedelta,
    force: bool,
    report: SweepReport,
) -> None:
    first = since or _reached(sites, before) - max(period, timedelta(days=1))
    brake = Brake(force, "recent uploads", "sweep(force=True)")
    failed = report.failed
    complete = not report.refused
    held: list[StoredObjectRef] = []
    for policy in policies:
        for batch in recent_uploads(manager, policy, first, before):
            orphans = left_over(manager, sites, batch, asking).orphans
            brake.scanned += len(batch)
            brake.orphans += len(orphans)
            held += orphans
            if len(held) >= _HELD and not brake.pulled:
                _delete(manager, sites, held, asking, report)
                held = []
            elif len(held) >= _HELD:
                break
    report.scanned = brake.scanned
    if brake.pulled:
        report.refused.append(brake.reason)
    elif held and brake.orphans == brake.scanned and not force and not any_reference(sites):
        report.refused.append(brake.no_reference)
    else:
        _delete(manager, sites, held, asking, report)
        if complete and report.failed == failed and not report.dry_run and since is None:
            _reach(sites, before)
            report.watermark = before


def _delete(
    manager: StorageManager, sites: list[Site], refs: list[StoredObjectRef], asking: Asking, report: SweepReport
) -> None:
    for batch in batched(refs, _BATCH):
        if report.dry_run:
            report.orphans += len(left_over(manager, sites, batch, asking).orphans)
        else:
            gone, failures = delete_left_over(manager, sites, batch, asking)
            report.orphans += len(gone)
            report.deleted_bytes += sum(ref.size for ref in gone)
            report.failed += len(failures)


def _reached(sites: list[Site], before: datetime) -> datetime:
    """How far all of these databases were swept."""
    reached = []
    for site in sites:
        registry = registry_of(site.metadata)
        if registry is not None:
            with site.desk() as desk:
                reached.append(watermark(desk.connection, registry) or before - _FIRST_LOOK)
    return min([*reached, before])


def _reach(sites: list[Site], instant: datetime) -> None:
    for site in sites:
        registry = registry_of(site.metadata)
        if registry is not None:
            with site.desk() as desk:
                set_watermark(desk.connection, registry, instant)
                desk.connection.commit()
