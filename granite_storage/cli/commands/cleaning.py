"""Commands that delete what is nobody's, and the one that says whose it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from granite_storage.cli.application import Application
from granite_storage.cli.options import dry_run_option, force_option, grace_option, jobs_option, json_option, threads
from granite_storage.cli.output import print_json, print_report, progress_line, warn
from granite_storage.cli.running import cli, pass_application

if TYPE_CHECKING:
    from granite_storage.gc import GarbageReport

__all__ = ["adopt", "gc", "sweep"]


@cli.command()
@click.argument("policy", required=False)
@click.option("--delete", is_flag=True, help="Delete the orphans; without it they are only counted.")
@click.option("--dry-run", is_flag=True, help="Only count (the default).")
@jobs_option
@grace_option
@force_option
@json_option
@pass_application
def gc(
    application: Application,
    policy: str | None,
    delete: bool,
    dry_run: bool,
    jobs: int | None,
    grace: timedelta | None,
    force: bool,
    as_json: bool,
) -> int:
    """Find objects that no row names, in the whole store or below one POLICY's prefix, and delete them.

    \b
    Examples:
        granite-storage gc                         count them all
        granite-storage gc documents --delete      delete those of one policy
        granite-storage gc --grace 7d --json
    """
    from granite_storage.gc import StorageGarbageCollector

    if delete and dry_run:
        raise click.UsageError("give either --delete or --dry-run")
    with progress_line(_gc_progress) as show, threads(application, jobs) as executor:
        collector = StorageGarbageCollector(application.manager, engine=application.engine, grace=grace, progress=show)
        options: dict[str, Any] = {
            "storage_key": policy,
            "dry_run": not delete,
            "force": force,
            "executor": executor,
        }
        report = application.on_database(lambda: collector.collect(**options), lambda: collector.acollect(**options))
    status = print_report(report, as_json)
    for one in () if as_json else report.unreadable:
        warn(f"unreadable: {one.column} of row {one.key}: {one.problem}")
    return status


def _gc_progress(report: GarbageReport) -> str:
    return f"{report.scanned} objects, {report.orphaned} orphans, {report.deleted} deleted"


@cli.command()
@dry_run_option
@click.option("--since", type=click.DateTime(), help="List uploads from this instant (UTC) on.")
@grace_option
@force_option
@json_option
@pass_application
def sweep(
    application: Application, dry_run: bool, since: datetime | None, grace: timedelta | None, force: bool, as_json: bool
) -> int:
    """Finish what transactions left over: the outbox, and uploads that were never committed.

    Run it every few minutes to hours, from cron or a scheduler; any time is safe.

    \b
    Examples:
        granite-storage sweep
        granite-storage sweep --dry-run --json
    """
    options: dict[str, Any] = {
        "dry_run": dry_run,
        "since": since and since.replace(tzinfo=UTC),
        "grace": grace,
        "force": force,
    }
    manager, engine = application.manager, application.engine
    report = application.on_database(
        lambda: manager.sweep(engine, **options), lambda: manager.asweep(engine, **options)
    )
    status = print_report(report, as_json)
    for one in () if as_json else report.stuck:
        warn(f"stuck: {one.backend}:{one.location} after {one.attempts} attempts: {one.last_error}")
    return status


@cli.command()
@click.option(
    "--new-database-id", is_flag=True, help="Give the database a new id first: for a copy that goes its own way."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@json_option
@pass_application
def adopt(application: Application, new_database_id: bool, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Make this application's owner and database the only ones that are marked at the policies' prefixes.

    Once, by hand, when an owner was renamed, a database was made anew, or another's store was taken over for
    good; never while anybody else still names objects there: the next sweep may delete them.

    \b
    Examples:
        granite-storage adopt --dry-run
        granite-storage adopt
        granite-storage adopt --new-database-id --yes
    """
    manager, engine = application.manager, application.engine
    prefixes = sorted({f"{policy.backend_key}:{policy.prefix}" for policy in manager.policies.values()})
    owner = f"owner {manager.ownership.owner!r}" if manager.ownership.owner else "no owner"
    what = f"{', '.join(prefixes)} as this database's, of {owner}, and of nobody else"
    if dry_run:
        if as_json:
            print_json({"dry_run": True, "would_adopt": prefixes, "owner": manager.ownership.owner})
        else:
            click.echo(f"would mark {what}")
        return 0
    if not yes and not _confirmed(f"Mark {what}?"):
        click.echo("nothing was changed", err=True)
        return 1

    async def awaited() -> None:
        from granite_storage.maintenance.awaited import run_awaited

        await run_awaited(manager, engine, partial(manager.take_ownership, engine, new_database_id=new_database_id))

    application.on_database(lambda: manager.take_ownership(engine, new_database_id=new_database_id), awaited)
    if as_json:
        print_json({"adopted": prefixes})
    else:
        click.echo(f"adopted: {', '.join(prefixes)}")
    return 0


def _confirmed(question: str) -> bool:
    """What somebody answers.

    :raises click.ClickException: if nobody does.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort as unanswered:
        if isinstance(unanswered.__context__, KeyboardInterrupt):
            raise
        click.echo(err=True)  # the question's line ends
        raise click.ClickException("nothing was changed, for nobody answered the question; give --yes") from unanswered
