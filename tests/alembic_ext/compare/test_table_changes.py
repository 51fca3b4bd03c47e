"""Which tables are looked at, and where they are."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import FileColumn, FileMapped, StoredFile
from granite_storage.orm.options import metadata_options
from tests.alembic_ext.projects import commands, nothing


def models(schema: str | None):
    class Base(DeclarativeBase):
        metadata = MetaData(schema=schema)

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    return Base


@pytest.mark.databases("postgresql")
def test_tables_in_another_schema_are_migrated(project):
    project.configure(include_schemas=True)
    project.execute("CREATE SCHEMA other")
    script = project.migrate(models("other"))
    assert "schema='other'" in script
    project.migrate(nothing())
    project.downgrade()
    assert project.differences(models("other")) == []


@pytest.mark.databases("postgresql", "mariadb")
def test_a_table_whose_schema_is_the_default_one_is_migrated(project, database):
    schema = "public" if database.name == "postgresql" else database.url.database
    project.migrate(models(schema))
    project.downgrade("base")
    assert project.tables() == set()


@pytest.mark.databases("sqlite")
def test_tables_of_several_metadata_are_migrated(project):
    first = models(None).metadata
    second = MetaData(info=metadata_options(outbox="other_outbox", registry="other_fields"))  # each has its own
    models(None).metadata.tables["document"].to_metadata(second, name="other")
    script = project.migrate([first, second])
    assert sum("__report__location" in line for line in commands(script)) == 4
