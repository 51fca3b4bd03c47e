"""What is compared: a case has contenders, and each contender does the same work its own way, round after round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

__all__ = ["Case", "Contender", "Round", "Settings"]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """What the command line chose.

    :param rounds: how often each contender runs, after one round that does not count.
    :param quick: a small workload, to see that everything works; its figures say little.
    :param directory: where files and SQLite databases go: a folder on a disk, for the cases that wait for one.
    """

    rounds: int
    quick: bool
    directory: str


@dataclass(frozen=True)
class Round:
    """One contender, set up.

    :param run: the work that is timed; what it returns, if not None, is the seconds it has timed itself.
    :param before: what makes it ready, not timed.
    :param after: what cleans up and checks that the work was done, not timed.
    """

    run: Callable[[], float | None]
    before: Callable[[], object] = _nothing
    after: Callable[[], object] = _nothing


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case, in a process of its own.

    :param make: a function of a module, called in that process with ``args``; gives the :class:`Round`.
    :param goal: the first contender, granite-storage, is to take at most this many times what this one takes.
    :param peer: whether it is another library, whose failure is reported and does not stop the rest.
    :param note: what its reader should know, such as what it does not do.
    """

    name: str
    make: Callable[..., AbstractContextManager[Round]]
    args: tuple[Any, ...] = ()
    goal: float | None = None
    peer: bool = False
    note: str = ""


@dataclass(frozen=True)
class Case:
    """One table of the report.

    :param contenders: granite-storage first.
    :param per: what one round's seconds are divided by, such as the number of rows.
    :param unit: the unit of a table's figures, such as ``"us/row"``.
    :param scale: units in a second.
    :param peak_goal: how far the first contender's resident memory may grow above what its process starts with (the
        library is imported by then), in bytes.
    :param cpu_goal: a contender, and CPU seconds beside its own that the first contender may use.
    :param peak_below: a contender than which the first one is to use less memory.
    """

    title: str
    contenders: tuple[Contender, ...]
    per: int
    unit: str
    scale: float
    peak_goal: int | None = None
    cpu_goal: tuple[str, float] | None = None
    peak_below: str | None = None
