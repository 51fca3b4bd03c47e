"""Running a command: its group, and what becomes of errors."""

from __future__ import annotations

import io
import logging
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from granite_storage.cli.application import Application, load_application
from granite_storage.cli.remedies import told
from granite_storage.exceptions import StorageError

__all__ = ["cli", "pass_application", "run"]

INTERRUPTED = 130
CUT_OFF = 141  # 128 + SIGPIPE
_PRINT_ONLY = ("ls", "cat")


class _Commands(click.Group):
    """Commands that end by returning: whoever else ends the program, such as the application's code, did not do it.

    Where the reader, such as ``head``, has seen enough, a command that only prints is done; of another nobody knows.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            status = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
        except BrokenPipeError as gone:
            raise click.exceptions.Exit(0 if ctx.invoked_subcommand in _PRINT_ONLY else CUT_OFF) from gone
        except SystemExit as leaving:
            raise click.ClickException(f"the application ended the program: {leaving}") from leaving


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--app", metavar="MODULE:MANAGER", help="The application's StorageManager, or what makes it.")
@click.option(
    "--database",
    metavar="URL",
    help="The database, as SQLAlchemy writes it.",
)
@click.option("--engine", metavar="MODULE:ENGINE", help="The application's engine, or several, or what makes them.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, each deletion included.")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
@click.version_option(package_name="granite-storage")
@click.pass_context
def cli(
    ctx: click.Context, app: str | None, database: str | None, engine: str | None, verbose: bool, traceback: bool
) -> None:
    """Look after the files of an application that uses granite-storage.

    The application is given by --app, by the variable GRANITE_STORAGE_APP, or in pyproject.toml:

    \b
        [tool.granite-storage]
        app = "shop.storage:manager"
        engine = "shop.database:engine"

    The database is the one that manager.attach() was given, or that of --database, --engine, or the
    variable GRANITE_STORAGE_DATABASE, which keeps a password out of the list of processes.

    Exit status: 0 all is well or done; 1 verify found something, or something is left to do;
    2 it failed; 130 it was interrupted; 141 the reader of its output, such as head, ended first.
    """
    logging.getLogger("granite_storage").setLevel(logging.INFO if verbose else logging.WARNING)
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    ctx.obj = _Lazy(lambda: load_application(app, database, engine))


class _Lazy:
    """The application, imported by the first command that needs it, so that --help needs none."""

    def __init__(self, load: Callable[[], Application]) -> None:
        self._load = load
        self._found: Application | None = None

    def __call__(self) -> Application:
        if self._found is None:
            self._found = self._load()
        return self._found


def pass_application(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the application as its first argument."""

    @click.pass_context
    def with_application(ctx: click.Context, *arguments: Any, **options: Any) -> Any:
        return ctx.invoke(command, ctx.find_object(_Lazy)(), *arguments, **options)  # type: ignore[misc]

    with_application.__doc__ = command.__doc__
    with_application.__name__ = command.__name__
    with_application.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return with_application


def run(arguments: Sequence[str]) -> int:
    """Run the command line; gives the exit status. An error is one line, not a traceback."""
    import granite_storage.cli.commands  # noqa: F401 - they join the group

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    try:
        result = cli.main(args=list(arguments), prog_name="granite-storage", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        with suppress(OSError):  # nobody can be told
            error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        with suppress(OSError):
            click.echo(
                "\ninterrupted: what was done stays done, and nothing is half done; give the same command again to go "
                "on",
                err=True,
            )
        return INTERRUPTED
    except SystemExit:  # so click ends where the reader of a help has seen enough
        return 0
    except (StorageError, SQLAlchemyError, OSError, sqlite3.Error) as error:
        if "--traceback" in arguments:
            raise
        with suppress(OSError):
            click.secho(f"Error: {_told(error)}", err=True, fg="red")
        return 2
    return int(result or 0)


def _told(error: Exception) -> str:
    if isinstance(error, DBAPIError) and error.orig is not None:  # neither the statement nor its parameters
        said = str(error.orig).strip() or type(error.orig).__name__
        return f"the database says: {said.splitlines()[0]}"
    return told(str(error).strip()) or type(error).__name__
