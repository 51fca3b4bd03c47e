"""Some hundred random histories over all databases, or with ``make soak`` ten thousand; the last lines of the run say
how many. ``GRANITE_HISTORIES`` in the environment asks for another number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from tests.conftest import answering_databases
from tests.histories.ground import Ground
from tests.histories.machine import run_histories

_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
_PARTS = 8 if _SOAK else 1  # of which each runs in any worker
_HISTORIES = int(os.environ.get("GRANITE_HISTORIES", 10_000 if _SOAK else 300))


@pytest.mark.hypothesis
@pytest.mark.timeout(3600 if _SOAK else 900)  # a history that fails is made shorter first
@pytest.mark.parametrize("part", range(_PARTS))
def test_whatever_happens_rows_and_objects_agree(
    engine: Engine, part: int, record_property: Callable[[str, object], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "granite_storage")  # deletes that are to fail are told
    ground = Ground(engine)
    run_histories(ground, -(-_HISTORIES // len(answering_databases()) // _PARTS))
    record_property("histories", ground.histories)
