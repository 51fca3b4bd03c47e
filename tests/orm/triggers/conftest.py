"""The world with triggers, with its tables."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.orm.triggers.worlds import TriggerWorld


@pytest.fixture
def world(engine: Engine) -> TriggerWorld:
    made = TriggerWorld(engine)
    made.metadata.create_all(engine)
    return made
