"""A wrong name in a script by hand is said before anything is done, and leaves everything as it was."""

from __future__ import annotations

import pytest

from granite_storage import ConfigurationError, FileColumn
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox, stand


@pytest.fixture
def Base(engine):
    made = models(report=FileColumn("documents", trigger=True), cover=FileColumn("covers", location_index=False))
    made.metadata.create_all(engine)
    add_rows(engine, made.Document.__table__, report="docs/a")
    return made


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda op: op.drop_file_column("document", "reprot"), "'document' has no column 'reprot', but 'id', 'title',"),
        (lambda op: op.drop_file_column("documnet", "report"), "the default schema has no table 'documnet'"),
        (lambda op: op.drop_file_column("document", "cover"), "document.cover has no location index .*index=False"),
        (lambda op: op.rename_file_column("document", "reprot", "a", policy="documents"), "no column 'reprot'"),
        (lambda op: op.rename_file_column("document", "report", "cover", policy="documents"), "'cover' already"),
        (lambda op: op.rename_file_column("document", "cover", "front", policy="covers"), "no location index"),
        (
            lambda op: op.drop_file_column("document", "report", indexes=["size"]),
            "document.report has no size index 'ix_document__report__size'.*leave 'size' out of indexes=",
        ),
        (lambda op: op.drop_file_column("document", "report", indexes=["sise"]), "names 'sise'.*there are size,"),
        (
            lambda op: op.rename_file_table("document", "l", columns={"report": "d"}, indexes={"reprot": ["size"]}),
            "wrong is 'reprot'",
        ),
        (lambda op: op.unregister_file_column("document", "reprot", objects="free"), "no column 'reprot'"),
        (lambda op: op.rebind_file_column("document", "reprot", "documents", "archive"), "no column 'reprot'"),
        (lambda op: op.create_file_triggers("document", "reprot"), "no column 'reprot'"),
        (lambda op: op.rename_file_table("documnet", "letter", columns={"report": "documents"}), "no table 'documnet'"),
        (lambda op: op.rename_file_table("document", "letter", columns={"reprot": "documents"}), "no column 'reprot'"),
        (lambda op: op.rename_file_table("document", "letter", columns={"cover": "c"}), "no location index"),
        (
            lambda op: op.rename_file_table("document", "granite_storage_outbox", columns={"report": "documents"}),
            "there is a table 'granite_storage_outbox' already",
        ),
        (
            lambda op: op.rename_file_table("document", "letter", columns={"report": "d"}, triggers=["reprot"]),
            "wrong is 'reprot'",
        ),
        (
            lambda op: op.rename_file_table(
                "document", "l", columns={"report": "d"}, rename_table=False, present_name="x"
            ),
            "wrong is 'x'",
        ),
    ],
)
def test_a_wrong_name_is_told_and_nothing_is_done(project, engine, Base, run, call, told):
    if run.printed:
        return  # nobody can be asked
    before = project.schema(), noted(engine, Base)
    with pytest.raises(ConfigurationError, match=told):
        run(call)
    assert (project.schema(), noted(engine, Base)) == before
    assert stand(engine, Base.Document.__table__.c.report)
    assert outbox(engine) == []


def test_a_field_that_the_registry_does_not_know_is_noted_when_it_is_rebound(project, engine, Base, run):
    if run.printed:
        return
    project.execute("DELETE FROM granite_storage_fields WHERE column_name = 'cover'")
    run(lambda op: op.rebind_file_column("document", "cover", "covers", "archive"))
    assert ("document", "cover", "archive", None) in noted(engine, Base)
