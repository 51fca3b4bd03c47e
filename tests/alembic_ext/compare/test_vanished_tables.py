"""Tables of the registry that are not in the database any more."""

from __future__ import annotations

from granite_storage import FileColumn
from tests.alembic_ext.compare.test_fields import parts
from tests.alembic_ext.operations.running import models, noted


def version(table: str):
    return models(table=table, report=FileColumn("documents", trigger=True), cover="covers")


def test_a_table_that_was_dropped_by_hand_is_forgotten(project, engine):
    Base = version("document")
    other = models(Base.metadata, table="other", report="documents")
    project.migrate(other)
    project.execute("DROP TABLE document")
    up, _ = parts(project.migrate(models(table="other", report="documents")))
    assert up == [f"op.unregister_file_column('document', {one!r}, objects='keep')" for one in ("cover", "report")]
    assert {row[0] for row in noted(engine, Base)} == {"other"}
    project.downgrade()
    assert {row[0] for row in noted(engine, Base)} == {"other", "document"}
