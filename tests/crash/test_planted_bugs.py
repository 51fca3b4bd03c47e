"""The matrix fails where it must: each bug, of a kind that peers have, is caught at a step that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.operations import OPERATIONS
from tests.crash.planted import BUGS
from tests.crash.verdicts import crash_and_check
from tests.crash.worlds import CrashWorld
from tests.crash.zygote import Zygote

_CAUGHT = [
    ("deletes before the commit", "replace", "after the flush, before the commit", None, "missing or partial"),
    ("deletes before the commit", "delete", "inside the commit, before it is durable", None, "missing or partial"),
    ("deletes before the commit", "bulk delete", "after the flush, before the commit", None, "missing or partial"),
    ("writes no outbox", "replace", "after the commit", None, "is nobody's"),
    ("writes no outbox", "clear", "inside the commit, once it is durable", None, "is nobody's"),
    ("writes no outbox", "bulk delete", "after the commit", None, "is nobody's"),
    ("removes the outbox rows first", "delete", "mid-delete", None, "is nobody's"),
    ("removes the outbox rows first", "delete", "after the commit", "mid-delete", "is nobody's"),
    ("publishes what is not there yet", "insert", "inside the commit, once it is durable", None, "missing or partial"),
    ("writes in place", "insert", "mid-upload", None, "a partial object is visible"),
    ("stores after the commit", "replace", "inside the commit, once it is durable", None, "missing or partial"),
]


@pytest.mark.parametrize(("bug", "operation", "step", "in_sweep", "verdict"), _CAUGHT)
def test_the_matrix_catches(
    zygote: Zygote, world: CrashWorld, bug: str, operation: str, step: str, in_sweep: str | None, verdict: str
) -> None:
    with pytest.raises(AssertionError, match=verdict):
        crash_and_check(zygote, world, operation, step, in_sweep=in_sweep, bug=bug)


def test_the_matrix_catches_a_sweep_that_asks_no_row(
    zygote: Zygote, world: CrashWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: Any) -> set[Any]:
        return set()

    monkeypatch.setattr("granite_storage.maintenance.left_over.named", nothing)
    monkeypatch.setattr("granite_storage.maintenance.sweep.any_reference", lambda sites: True)
    with pytest.raises(AssertionError, match="missing or partial"):
        crash_and_check(zygote, world, "replace", "after the commit")


def test_every_bug_is_caught_somewhere() -> None:
    assert {bug for bug, *_ in _CAUGHT} >= BUGS.keys()
    assert {operation for _, operation, *_ in _CAUGHT} <= OPERATIONS.keys()
