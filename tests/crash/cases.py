"""A case: what one child process does, where it dies, and what must be true once it is dead."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from tests.crash.moving import MOVES, MoveWorld, arrange_move
from tests.crash.operations import OPERATIONS, Doing
from tests.crash.planted import plant
from tests.crash.steps import arrange
from tests.crash.worlds import SIZE, CrashWorld

__all__ = ["Case", "run"]


@dataclass(frozen=True)
class Case:
    """What a child process is told; it travels as JSON.

    :param operation: its name, ``sweep``, or that of a move.
    :param step: where the process kills itself; None for nowhere.
    :param size: bytes of each new file.
    :param named: whether unpublished files of a folder have names, as on systems without O_TMPFILE.
    :param bug: what is broken in the library of that process.
    """

    database: str
    storage: str
    operation: str
    step: str | None = None
    size: int = SIZE
    named: bool = False
    bug: str | None = None


def run(case: Case) -> None:
    """Do it, in this process, which does not survive it if the case's step is reached."""
    if case.named:
        import granite_storage.backends.local as local

        local.can_link_unnamed = lambda path: False
    if case.operation in MOVES:
        moving = MoveWorld(case.database, case.storage, case.operation)
        assert case.step is not None
        arrange_move(moving, case.step, _die)
        moving.move()
        return
    world = CrashWorld(case.database, case.storage)
    if case.bug is not None:
        plant(case.bug, world)
    sweeping = case.operation == "sweep"
    reached = arrange(world, case.step, _die, sweeping=sweeping)
    if sweeping:
        world.sweep()
        return
    with world.session() as session:
        OPERATIONS[case.operation].run(Doing(world, session, reached, case.size))
        session.flush()
        reached("after the flush, before the commit")
        session.commit()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # in a thread: the process goes at once, and this one with it
