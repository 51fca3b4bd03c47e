"""The command line, ``granite-storage``; it needs the extra ``cli``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 ``verify`` found something or work is left, 2 it failed.

    130 it was interrupted; 141 the reader of what it printed ended first.

    :param arguments: by default those that the program was called with.
    """
    try:
        import click  # noqa: F401
    except ModuleNotFoundError:
        sys.exit(
            "granite-storage: the command line needs click, which the extra `cli` installs: "
            "pip install 'granite-storage[cli]'"
        )
    from granite_storage.cli.running import run

    status = run(sys.argv[1:] if arguments is None else list(arguments))
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    sys.exit(status)


def _let_go(stream: TextIO | None) -> None:
    """Have Python not try once more to write what a stream does not take, which would change the exit status."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
