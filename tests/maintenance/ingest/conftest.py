from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.maintenance.ingest.archives import Archive


@pytest.fixture
def archive(engine: Engine, tmp_path: Path) -> Archive:
    return Archive(engine, tmp_path / "store")
