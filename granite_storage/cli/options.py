"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click

from granite_storage.cli.application import Application
from granite_storage.cli.output import Duration

__all__ = ["dry_run_option", "force_option", "grace_option", "jobs_option", "json_option", "threads"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be done.")
grace_option = click.option(
    "--grace", type=Duration(), help="Leave alone what is younger, such as 24h; by default the manager's."
)
force_option = click.option("--force", is_flag=True, help="The explicit word that it needs if unusually much would go.")
jobs_option = click.option(
    "-j", "--jobs", type=click.IntRange(min=1), help="Work with so many threads; it needs a synchronous engine."
)


@contextmanager
def threads(application: Application, jobs: int | None) -> Iterator[ThreadPoolExecutor | None]:
    """What ``--jobs`` means; None where it was not given.

    :raises click.ClickException: if an engine is asynchronous, which works in one event loop.
    """
    if jobs is None:
        yield None
        return
    if application.asynchronous:
        raise click.ClickException(
            "--jobs needs synchronous engines: give --database with a synchronous driver, and attach the models "
            "without an engine"
        )
    with ThreadPoolExecutor(jobs, thread_name_prefix="granite-storage-job") as executor:
        yield executor
