"""Each operation is run online, and printed and then run."""

from __future__ import annotations

import pytest

from tests.alembic_ext.operations.running import Runner


@pytest.fixture(params=[False, True], ids=["online", "sql"])
def run(request, engine) -> Runner:
    return Runner(engine, printed=request.param)
