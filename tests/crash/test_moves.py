"""A move is killed with SIGKILL at each of its steps, and started again.

Whenever it dies, every row names a whole object with its own content; the next run moves what is left, and one sweep
later nothing is there but what rows reference.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.cases import Case
from tests.crash.moving import MOVE_STEPS, MOVES, MoveWorld
from tests.crash.worlds import OLD
from tests.crash.zygote import Zygote
from tests.databases import Database

_DURABLE = list(MOVE_STEPS).index("inside the commit, once it is durable")


@pytest.fixture(params=list(MOVES))
def moving(request: pytest.FixtureRequest, tables: Database, storage: str) -> Iterator[MoveWorld]:
    made = MoveWorld(tables.url.render_as_string(hide_password=False), storage, request.param)
    made.fill()
    yield made
    made.close()


def _kill(zygote: Zygote, world: MoveWorld, step: str) -> None:
    database = world.engine.url.render_as_string(hide_password=False)
    ended = zygote.run(Case(database, world.storage, world.kind, step))
    assert ended.killed, f"the process was not killed: it never came to the step, or failed before it\n{ended}"
    world.wait_until_alone()


@pytest.mark.parametrize("step", MOVE_STEPS)
def test_a_killed_move_loses_nothing_and_the_next_run_finishes_it(zygote: Zygote, moving: MoveWorld, step: str) -> None:
    _kill(zygote, moving, step)
    moving.check_survivors(OLD)
    assert moving.moved() == (len(OLD) if list(MOVE_STEPS).index(step) >= _DURABLE else 0)
    report = moving.move()
    assert report.complete and moving.moved() == len(OLD)
    moving.check_survivors(OLD)
    assert moving.sweep().complete
    moving.check_swept(OLD)


@pytest.mark.parametrize("step", ["after one copy of three", "inside the commit, once it is durable", "mid-delete"])
def test_a_sweep_after_a_killed_move_leaves_what_rows_name(zygote: Zygote, moving: MoveWorld, step: str) -> None:
    """Before anybody starts the move again."""
    _kill(zygote, moving, step)
    assert moving.sweep().complete
    moving.check_swept(OLD)
    assert moving.move().complete
    moving.check_swept(OLD)
