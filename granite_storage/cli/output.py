"""What commands print: reports as a line or as JSON, and how far long work has got."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import click

from granite_storage.cli.remedies import told

__all__ = ["Duration", "print_json", "print_report", "progress_line", "warn"]


def print_json(value: Any) -> None:
    """One line of JSON, in ASCII: whatever the encoding of the terminal, it can be read."""
    click.echo(json.dumps(value, default=_plain))


def warn(text: str) -> None:
    """A line on standard error: what was not done, and how to go on."""
    click.secho(told(text), err=True, fg="yellow")


def print_report(report: Any, as_json: bool) -> int:
    """Print a report of maintenance; gives the exit status: 0 if all was done, else 1."""
    if as_json:
        print_json({**_plain(report), "complete": report.complete})
    else:
        click.echo(report.summary)
        for reason in report.refused:
            warn(f"not done: {reason}")
    return 0 if report.complete else 1


@contextmanager
def progress_line(describe: Callable[[Any], str]) -> Iterator[Callable[[Any], None]]:
    """Keep one line on the terminal up to date; nothing is written where there is none.

    ::

        with progress_line(lambda report: f"{report.scanned} objects") as progress:
            collector(progress=progress).collect()
    """
    if not sys.stderr.isatty():
        yield lambda report: None
        return
    last = 0.0
    written = False

    def show(report: Any) -> None:
        nonlocal last, written
        now = time.monotonic()
        if now - last >= 0.1:
            last, written = now, True
            click.echo(f"\r\x1b[K{describe(report)}", nl=False, err=True)

    try:
        yield show
    finally:
        if written:
            click.echo("\r\x1b[K", nl=False, err=True)


_LONGEST = 100 * 365 * 86_400  # seconds
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}  # seconds


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
    """A time such as ``90s``, ``15m``, ``24h`` or ``7d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], value[-1:]
        if unit not in _UNITS or not number.isdecimal():
            self.fail(f"{value!r} is no time such as 90s, 15m, 24h or 7d", param, ctx)
        if len(number) > 12 or int(number) * _UNITS[unit] > _LONGEST:
            self.fail(f"{value!r} is longer than 100 years", param, ctx)
        return timedelta(seconds=int(number) * _UNITS[unit])


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
