"""Commands that show what is there, and how it is configured."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from itertools import islice

import click

from granite_storage.cli.application import Application
from granite_storage.cli.options import json_option
from granite_storage.cli.output import print_json
from granite_storage.cli.running import cli, pass_application
from granite_storage.cli.settings import settings_of, told_settings
from granite_storage.maintenance.listing import iter_objects
from granite_storage.maintenance.wording import size_text, table
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef

__all__ = ["cat", "config", "ls", "stats"]


@cli.command()
@click.argument("place")
@click.option("-l", "--long", is_flag=True, help="Sizes and times, too.")
@click.option("--start-after", metavar="LOCATION", help="Only what comes after this one.")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="At most so many.")
@json_option
@pass_application
def ls(
    application: Application, place: str, long: bool, start_after: str | None, limit: int | None, as_json: bool
) -> None:
    """List the objects of a policy, in the order of their locations if its backend lists in order.

    PLACE is a policy's name, perhaps with a folder below its prefix.

    \b
    Examples:
        granite-storage ls documents
        granite-storage ls documents/2026/11 -l -n 20
    """
    name, _, below = place.partition("/")
    policy = application.manager.get_policy(name)
    folder = f"{policy.prefix}/{below}".rstrip("/")
    found = iter_objects(application.manager.get_backend_for_policy(policy), folder, start_after)
    for one in islice(found, limit):
        if as_json:
            print_json(one._asdict())
        elif long:
            click.echo(f"{size_text(one.size):>9}  {one.modified:%Y-%m-%d %H:%M:%S}  {one.location}")
        else:
            click.echo(one.location)


@cli.command()
@click.argument("location")
@click.option("-p", "--policy", help="The policy whose backend has it; by default the one whose prefix it is below.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, writable=True), help="A file, instead of standard output."
)
@pass_application
def cat(application: Application, location: str, policy: str | None, output: str | None) -> None:
    """Write the content of one object.

    \b
    Examples:
        granite-storage cat docs/2026/11/25/0199...-....pdf > report.pdf
        granite-storage cat document/42-deadbeef.txt --policy documents -o note.txt
    """
    manager = application.manager
    chosen = manager.get_policy(policy) if policy else _policy_of(application, location)
    ref = StoredObjectRef(chosen.storage_key, chosen.backend_key, location, 0, "")
    with ExitStack() as stack:
        source = stack.enter_context(manager.open(ref))  # before a file is made for it
        target = stack.enter_context(click.open_file(output or "-", "wb"))
        shutil.copyfileobj(source, target, 2**20)


def _policy_of(application: Application, location: str) -> StoragePolicy:
    for policy in application.manager.policies.values():
        if any(location.startswith(f"{place.prefix}/") for place in policy.everywhere()):
            return policy
    raise click.UsageError(f"{location!r} is below no policy's prefix; say whose it is: --policy NAME")


@cli.command()
@json_option
@pass_application
def config(application: Application, as_json: bool) -> None:
    """Show backends, policies and file fields, as the application has configured them. Secrets are masked.

    \b
    Example:
        granite-storage config
    """
    settings = settings_of(application.manager)
    if as_json:
        print_json(settings)
        return
    for title, head, rows in told_settings(settings):
        click.secho(title, bold=True)
        click.echo(table(head, rows, left=len(head)))
        click.echo()


@cli.command()
@json_option
@pass_application
def stats(application: Application, as_json: bool) -> None:
    """Count the files that rows name: how many, how large, of what types and how old, per field and policy.

    The database counts; no object is looked at, and a replica will do.

    \b
    Examples:
        granite-storage stats
        granite-storage stats --json
    """
    from granite_storage.stats import astorage_stats, storage_stats

    manager, engine = application.manager, application.engine
    found = application.on_database(
        lambda: storage_stats(manager, engine=engine), lambda: astorage_stats(manager, engine=engine)
    )
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(str(found))
