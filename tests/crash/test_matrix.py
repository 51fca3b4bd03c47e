"""The crash matrix: a process is killed with SIGKILL at each step of each operation, and of the sweep after it.

Afterwards no row names a missing or partial object; the operation's state holds if its commit was durable, and the old
one if not; and one sweep leaves exactly what rows reference. Each case is a test of its own, named by step, operation
and database.
"""

from __future__ import annotations

import pytest

from tests.crash.operations import OPERATIONS
from tests.crash.steps import steps_of, sweep_steps_of
from tests.crash.verdicts import crash_and_check, kill
from tests.crash.worlds import OLD, CrashWorld
from tests.crash.zygote import Zygote

_CASES = [
    pytest.param(operation.name, step, id=f"{operation.name}-{step}")
    for operation in OPERATIONS.values()
    for step in steps_of(operation)
]
_SWEEPS = [
    pytest.param(operation.name, step, in_sweep, id=f"{operation.name}-{step}-sweep-{in_sweep}")
    for operation in OPERATIONS.values()
    for step, in_sweep in sweep_steps_of(operation)
]


@pytest.mark.parametrize(("operation", "step"), _CASES)
def test_a_killed_process_loses_nothing_and_leaves_nothing(
    zygote: Zygote, world: CrashWorld, operation: str, step: str
) -> None:
    crash_and_check(zygote, world, operation, step)


@pytest.mark.parametrize(("operation", "step", "in_sweep"), _SWEEPS)
def test_a_killed_sweep_is_finished_by_the_next(
    zygote: Zygote, world: CrashWorld, operation: str, step: str, in_sweep: str
) -> None:
    crash_and_check(zygote, world, operation, step, in_sweep=in_sweep)


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("step", ["mid-upload", "after the upload, before the flush's SQL"])
@pytest.mark.parametrize("operation", ["insert", "replace", "released savepoint", "rolled-back savepoint"])
def test_a_temporary_file_that_a_killed_process_leaves_is_removed_by_the_sweep(
    zygote: Zygote, world: CrashWorld, operation: str, step: str
) -> None:
    kill(zygote, world, operation, step, named=True)
    assert len(world.unfinished()) >= (step == "mid-upload")
    world.check_survivors(OLD)
    assert world.sweep().complete
    world.check_swept(OLD)


# The same on S3: all steps of the operation that has them all, and what is special there


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("step", [step for step in steps_of(OPERATIONS["replace"]) if step != "mid-upload"])
def test_on_s3_a_killed_process_loses_nothing_and_leaves_nothing(
    zygote: Zygote, s3_world: CrashWorld, step: str
) -> None:
    crash_and_check(zygote, s3_world, "replace", step)


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("operation", ["insert", "rolled-back savepoint"])
def test_on_s3_the_parts_of_an_upload_that_was_cut_off_go(zygote: Zygote, s3_world: CrashWorld, operation: str) -> None:
    kill(zygote, s3_world, operation, "mid-upload", size=20 * 2**20)
    assert s3_world.unfinished(), "nothing was cut off"
    s3_world.check_survivors(OLD)
    assert s3_world.sweep().complete
    s3_world.check_swept(OLD)


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize(("step", "in_sweep"), sweep_steps_of(OPERATIONS["replace"]))
def test_on_s3_a_killed_sweep_is_finished_by_the_next(
    zygote: Zygote, s3_world: CrashWorld, step: str, in_sweep: str
) -> None:
    crash_and_check(zygote, s3_world, "replace", step, in_sweep=in_sweep)
