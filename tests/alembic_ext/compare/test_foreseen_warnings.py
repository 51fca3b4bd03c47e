"""What Alembic and SQLAlchemy say about indexes on expressions in SQLite."""

from __future__ import annotations

import warnings

import pytest
from sqlalchemy import Index, func

from tests.alembic_ext.projects import HAS_PLUGINS, with_files

pytestmark = pytest.mark.databases("sqlite")


def test_only_indexes_that_are_not_compared_are_warned_about(project):
    Base = with_files()
    Index('it\'s "so"', Base.Document.report.size)
    Index("ix_lower", func.lower(Base.Document.title))
    with warnings.catch_warnings(record=True, action="always") as caught:
        project.revision(Base)
    told = " ".join(str(warning.message) for warning in caught)
    if HAS_PLUGINS:  # earlier ones say it before anything of ours runs
        assert "ix_lower" in told
    assert "ix_document__report__location" not in told and "a so-called" not in told
