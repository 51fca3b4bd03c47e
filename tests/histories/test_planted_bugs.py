"""The histories find what somebody could get wrong: each of these bugs, planted in the library."""

from __future__ import annotations

import logging

import pytest
from hypothesis import Phase
from sqlalchemy import Engine

from granite_storage import StorageError
from tests.histories.bugs import BUGS, Plant
from tests.histories.ground import Ground
from tests.histories.machine import run_histories

_ENOUGH = 1000


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(
    engine: Engine, bug: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "granite_storage")
    bug(monkeypatch)
    ground = Ground(engine)
    with pytest.raises((AssertionError, StorageError)):  # by whatever it does first: one bug shows in several ways
        run_histories(
            ground,
            _ENOUGH,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
    assert ground.histories <= _ENOUGH + 1
