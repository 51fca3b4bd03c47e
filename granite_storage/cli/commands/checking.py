"""The command that verifies."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from granite_storage.cli.application import Application
from granite_storage.cli.options import force_option, grace_option, jobs_option, json_option, threads
from granite_storage.cli.output import print_json, progress_line, warn
from granite_storage.cli.remedies import told
from granite_storage.cli.running import cli, pass_application

if TYPE_CHECKING:
    from granite_storage.verify import Finding, VerifyReport

__all__ = ["verify"]


@cli.command()
@click.argument("policy", required=False)
@click.option("--deep", is_flag=True, help="Read every object, too, and compare its checksum.")
@click.option("--repair", is_flag=True, help="Do what is safe: orphans go to the outbox, stale rows of the outbox go.")
@click.option("--dry-run", is_flag=True, help="Only look (the default).")
@jobs_option
@grace_option
@force_option
@json_option
@pass_application
def verify(
    application: Application,
    policy: str | None,
    deep: bool,
    repair: bool,
    dry_run: bool,
    jobs: int | None,
    grace: timedelta | None,
    force: bool,
    as_json: bool,
) -> int:
    """Look at every row and every object: is every file there, is it whole, and what is nobody's?

    Each finding is a line on standard output, with what to do about it; with --json a line of JSON, and the
    report is the last. Exit status: 0 clean, 1 something was found, 2 not everything could be looked at.

    \b
    Examples:
        granite-storage verify
        granite-storage verify documents --deep --jobs 8
        granite-storage verify --repair
    """
    from granite_storage.verify import StorageVerifier

    if repair and dry_run:
        raise click.UsageError("give either --repair or --dry-run")

    def tell(finding: Finding) -> None:
        if as_json:
            print_json(finding.to_dict())
        else:
            click.echo(f"{told(str(finding))}\n    {told(finding.remedy)}")

    with progress_line(_progress) as show, threads(application, jobs) as executor:
        verifier = StorageVerifier(
            application.manager, engine=application.engine, grace=grace, found=tell, progress=show
        )
        options: dict[str, Any] = {
            "storage_key": policy,
            "deep": deep,
            "repair": repair,
            "force": force,
            "executor": executor,
        }
        report = application.on_database(lambda: verifier.verify(**options), lambda: verifier.averify(**options))
    if as_json:
        print_json({**report.to_dict(), "findings": report.found})
    else:
        click.echo(report.summary)
        for reason in report.refused:
            warn(f"not done: {reason}")
    return report.exit_status


def _progress(report: VerifyReport) -> str:
    return f"{report.rows} rows, {report.objects} objects, {report.found} findings"
