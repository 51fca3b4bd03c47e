"""The command line, ``granite-storage``; it needs the extra ``cli``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 ``verify`` found something or work is left, 2 it failed, 130 interrupted.

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

    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
