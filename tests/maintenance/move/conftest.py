"""A second backend and a policy there, to which files are moved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.maintenance.move.archives import ArchiveWorld


@pytest.fixture
def world(engine: Engine) -> Iterator[ArchiveWorld]:
    with ArchiveWorld(engine).with_archive() as made:
        yield made


@pytest.fixture
def small(memory_engine: Engine) -> Iterator[ArchiveWorld]:
    """The same, where the database does not matter."""
    with ArchiveWorld(memory_engine).with_archive() as made:
        yield made
