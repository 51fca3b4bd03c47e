"""A project as `alembic init` makes it, whose models change from one revision to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import alembic_ext
from tests.alembic_ext.projects import Project
from tests.databases import Database

alembic_ext.register()  # whatever imported the models before Alembic here


@pytest.fixture
def project(tmp_path: Path, database: Database, engine: Any) -> Project:
    """A stock project on an empty database."""
    return Project(tmp_path, database.url)
