"""One case of the matrix: kill, look, sweep, look again. What is wrong is an AssertionError that names it."""

from __future__ import annotations

from typing import Any

from tests.crash.cases import Case
from tests.crash.operations import OPERATIONS
from tests.crash.steps import is_durable
from tests.crash.worlds import OLD, SIZE, CrashWorld
from tests.crash.zygote import Zygote

__all__ = ["crash_and_check", "kill"]


def kill(zygote: Zygote, world: CrashWorld, operation: str, step: str, **options: Any) -> None:
    """Have a child process do an operation and die at a step; the database has noticed when this returns.

    :param options: as :class:`~tests.crash.cases.Case` has them.
    """
    database = world.engine.url.render_as_string(hide_password=False)
    ended = zygote.run(Case(database, world.storage, operation, step, **options))
    assert ended.killed, f"the process was not killed: it never came to the step, or failed before it\n{ended}"
    world.wait_until_alone()


def crash_and_check(
    zygote: Zygote, world: CrashWorld, operation: str, step: str, *, in_sweep: str | None = None, **options: Any
) -> None:
    """Kill an operation, and with ``in_sweep`` a sweep after it; then all that must be true is.

    :param options: as :class:`~tests.crash.cases.Case` has them.
    """
    kill(zygote, world, operation, step, **options)
    expected = OPERATIONS[operation].new(options.get("size", SIZE)) if is_durable(step) else OLD
    if in_sweep is not None:
        kill(zygote, world, "sweep", in_sweep, bug=options.get("bug"))
    world.check_survivors(expected)
    report = world.sweep()
    assert report.complete, f"the sweep was not complete: {report}"
    world.check_swept(expected)
