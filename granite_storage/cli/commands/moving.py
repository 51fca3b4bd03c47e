"""Commands that move files: from one policy to another, and into file fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from granite_storage.cli.application import Application
from granite_storage.cli.options import dry_run_option, jobs_option, json_option, threads
from granite_storage.cli.output import print_json, print_report, progress_line, warn
from granite_storage.cli.running import cli, pass_application
from granite_storage.exceptions import ConversionError
from granite_storage.maintenance.wording import plural

if TYPE_CHECKING:
    from granite_storage.move import MoveReport

__all__ = ["import_", "move"]


@cli.command()
@click.argument("policy")
@click.option("--to", metavar="POLICY", help="The policy they go to; by default they go to their own policy's backend.")
@click.option("--from-backend", metavar="NAME", help="Only the files at this backend.")
@click.option("--no-limits", is_flag=True, help="Move also what the target policy would refuse as an upload.")
@click.option("--reread", is_flag=True, help="Read each copy back, and compare its checksum.")
@click.option("--bytes-per-second", type=click.FloatRange(min=0, min_open=True), help="Not faster than this.")
@click.option("--objects-per-second", type=click.FloatRange(min=0, min_open=True), help="Not faster than this.")
@jobs_option
@dry_run_option
@json_option
@pass_application
def move(
    application: Application,
    policy: str,
    to: str | None,
    from_backend: str | None,
    no_limits: bool,
    reread: bool,
    bytes_per_second: float | None,
    objects_per_second: float | None,
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Move the files of a policy to another policy or backend, while the application runs.

    Each is copied, verified, and its row switched if it still names the old object. It may be stopped at any time;
    the same command goes on.

    \b
    Examples:
        granite-storage move documents --to archive --dry-run
        granite-storage move documents --to archive --jobs 8 --bytes-per-second 20e6
        granite-storage move documents                 after the policy's backend_key was changed
    """
    from granite_storage.move import StorageMover

    with progress_line(_moved) as show, threads(application, jobs) as executor:
        mover = StorageMover(application.manager, engine=application.engine, progress=show)
        options: dict[str, Any] = {
            "to": to,
            "from_backend": from_backend,
            "dry_run": dry_run,
            "limits": not no_limits,
            "reread": reread,
            "bytes_per_second": bytes_per_second,
            "objects_per_second": objects_per_second,
            "executor": executor,
        }
        if jobs is not None and (bytes_per_second or objects_per_second):
            options["parts"] = jobs  # which share the rate
        report = application.on_database(lambda: mover.move(policy, **options), lambda: mover.amove(policy, **options))
    status = print_report(report, as_json)
    for one in () if as_json else report.findings:
        warn(f"not moved: {one.column} of row {one.key}: {one.problem}")
    more = report.failed + report.skipped - len(report.findings)
    if more > 0 and not as_json:
        warn(f"not moved: {more} more")
    return status


def _moved(report: MoveReport) -> str:
    return f"{report.moved} files, {report.moved_bytes} bytes moved"


@cli.command("import")
@click.argument("table")
@click.argument("old")
@click.argument("new")
@click.option("--policy", required=True, help="The policy that the files are stored under.")
@click.option(
    "--kind",
    type=click.Choice(["bytes", "text", "paths", "inline"]),
    help="What the old column holds; told by its type where that is certain.",
)
@click.option("--root", type=click.Path(exists=True, file_okay=False), help="The folder that paths are below.")
@click.option("--schema", help="The table's schema.")
@click.option("--filename-column", metavar="COLUMN", help="A column with the files' names.")
@click.option("--content-type-column", metavar="COLUMN", help="A column with the media types that are claimed.")
@click.option("--content-type", metavar="TYPE", help="The media type that is claimed where no column tells.")
@click.option("--encoding", default="utf-8", show_default=True, help="How text is encoded in the files.")
@click.option("--batch-size", type=click.IntRange(min=1), default=100, show_default=True, help="Rows at once, at most.")
@click.option("--skip-errors", is_flag=True, help="Leave rows that cannot be imported as they are, and go on.")
@click.option("--verify", is_flag=True, help="Read each object again, and compare its checksum.")
@dry_run_option
@json_option
@pass_application
def import_(
    application: Application,
    table: str,
    old: str,
    new: str,
    dry_run: bool,
    as_json: bool,
    skip_errors: bool,
    **options: Any,
) -> int:
    """Import what the column OLD of TABLE holds, or names by a path, into its file column NEW.

    The old column stays as it is. It may be stopped at any time; the same command goes on with the rows that have
    no file yet.

    \b
    Examples:
        granite-storage import document body report --policy documents --dry-run
        granite-storage import document body report --policy documents
        granite-storage import document path report --policy documents --kind paths --root /srv/files
    """
    from granite_storage.maintenance.awaited import run_awaited
    from granite_storage.maintenance.ingest import Conversion, ConversionReport, ingest
    from granite_storage.maintenance.ingest.counting import count_waiting

    conversion = Conversion(table=table, old=old, new=new, on_error="skip" if skip_errors else "stop", **options)
    manager, engine = application.manager, application.one_engine

    with progress_line(str) as show:

        def work() -> ConversionReport:
            if dry_run:
                return ConversionReport(total=count_waiting(engine, manager, conversion))
            return ingest(engine, manager, conversion, progress=show)

        try:
            report, stopped = application.on_database(work, lambda: run_awaited(manager, engine, work)), None
        except ConversionError as error:
            if error.report is None:
                raise
            report, stopped = error.report, error
    complete = not (stopped or report.failed)
    if as_json:
        numbers = {name: getattr(report, name) for name in ("total", "rows", "size", "failed")}
        told_more = {"failures": [str(one) for one in report.failures], "stopped": stopped and str(stopped)}
        print_json({"dry_run": dry_run, **numbers, **told_more, "complete": complete})
        return 0 if complete else 1
    click.echo(f"would convert {report.total} row{plural(report.total)}" if dry_run else str(report))
    if stopped:
        warn(f"not done: {stopped}")
    for one in () if stopped else report.failures:
        warn(f"not imported: {one}")
    return 0 if complete else 1
