"""Fields that are new, gone, taken over, bound to another policy, or no file fields any more."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, Text, insert

from granite_storage import FileColumn, StoredObjectRefType
from granite_storage.orm.options import metadata_options
from granite_storage.orm.registry import registry_of
from granite_storage.orm.triggers import TRIGGER_VERSION
from tests.alembic_ext.operations.running import add_rows, models, noted, outbox, ref
from tests.alembic_ext.projects import commands


def parts(script: str) -> tuple[list[str], list[str]]:
    """What upgrade() and downgrade() do."""
    up, down = script.split("def downgrade")
    return commands(up), commands(down)


def test_a_field_of_a_new_table_and_an_added_one_are_registered(project, engine):
    project.migrate(models(report="documents"))
    Base = models(report="documents", cover="covers")
    up, down = parts(project.migrate(Base))
    assert "op.register_file_column('document', 'cover', policy='covers')" in up
    assert "op.unregister_file_column('document', 'cover', objects='free')" in down
    assert noted(engine, Base) == {("document", "report", "documents", None), ("document", "cover", "covers", None)}


def test_a_dropped_field_frees_its_objects_before_the_column_goes(project, engine):
    Base = models(report="documents", cover=FileColumn("covers", location_index=False))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, report="docs/a", cover="covers/b")
    up, down = parts(project.migrate(models(report="documents")))
    freeing = up.index("op.unregister_file_column('document', 'cover', objects='free')")
    assert any("drop_column('document', 'cover')" in line for line in up[freeing:])
    assert "op.register_file_column('document', 'cover', policy='covers')" in down
    assert [row[0] for row in outbox(engine)] == ["covers/b"]
    project.downgrade()
    assert project.differences(Base) == []


def test_a_dropped_table_frees_its_objects(project, engine):
    keeping = models(table="other", report="documents")
    Both = models(keeping.metadata, report="documents")
    project.migrate(Both)
    add_rows(engine, Both.Document.__table__, report="docs/a")
    project.migrate(models(table="other", report="documents"))
    assert [row[0] for row in outbox(engine)] == ["docs/a"]
    assert {row[0] for row in noted(engine, Both)} == {"other"}
    project.downgrade()
    assert project.differences(Both) == []


def test_the_script_can_be_told_to_keep_the_objects(project, engine):
    Base = models(report="documents", cover="covers")
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, cover="covers/b")
    project.revision(models(report="documents"))
    (script,) = [
        one
        for one in project.scripts.glob("versions/*.py")
        if "'cover', objects='free'" in one.read_text()
        and one.read_text().index("objects='free'") < one.read_text().index("def downgrade")
    ]
    script.write_text(script.read_text().replace("objects='free'", "objects='keep'"))
    project.upgrade()
    assert outbox(engine) == []


def test_without_an_outbox_the_objects_are_kept(project):
    def without(**columns):
        return models(MetaData(info=metadata_options(outbox=None)), **columns)

    up, down = parts(project.migrate(without(report="documents", cover="covers")))
    assert "op.unregister_file_column('document', 'report', objects='keep', outbox=None)" in down
    up, _ = parts(project.migrate(without(report="documents")))
    assert "op.unregister_file_column('document', 'cover', objects='keep', outbox=None)" in up


def test_a_field_bound_to_another_policy_is_rebound_and_back(project, engine):
    Base = models(report="documents")
    project.migrate(Base)
    script = project.migrate(models(report="archive"))
    up, down = parts(script)
    assert up == ["op.rebind_file_column('document', 'report', 'documents', 'archive')"]
    assert down == ["op.rebind_file_column('document', 'report', 'archive', 'documents')"]
    assert "# 'documents' among the manager's policies. To move them all, while the application runs:" in script
    assert "# granite-storage move documents --to archive" in script
    assert noted(engine, Base) == {("document", "report", "archive", None)}
    project.downgrade()
    assert project.differences(Base) == []


def test_a_database_whose_registry_has_no_rows_has_no_dropped_fields(project, engine):
    Base = models(report="documents")
    Base.metadata.create_all(engine)
    registry = registry_of(Base.metadata)
    project.execute("DELETE FROM granite_storage_fields WHERE table_name <> ''")
    add_rows(engine, Base.Document.__table__, report="docs/a")
    up, down = parts(project.migrate(Base))
    assert up == ["op.register_file_column('document', 'report', policy='documents')"]
    assert down == ["op.unregister_file_column('document', 'report', objects='keep')"]  # the column stays
    assert noted(engine, Base) == {("document", "report", "documents", None)}
    project.downgrade("base")
    assert registry is not None and outbox(engine) == [] and noted(engine, Base) == set()


def test_a_field_that_no_registry_knows_frees_its_objects_when_it_is_dropped(project, engine):
    Base = models(report="documents", cover="covers")
    Base.metadata.create_all(engine)
    project.execute("DELETE FROM granite_storage_fields WHERE table_name <> ''")
    add_rows(engine, Base.Document.__table__, cover="covers/b")
    up, down = parts(project.migrate(models(report="documents")))
    assert "op.unregister_file_column('document', 'cover', objects='free')" in up
    assert not any("register_file_column('document', 'cover'" in line for line in down)  # it comes back as it was
    assert [row[0] for row in outbox(engine)] == ["covers/b"]
    project.downgrade("base")


@pytest.mark.parametrize("trigger", [False, True])
def test_the_column_of_an_earlier_mixin_is_taken_over_as_it_is(project, engine, trigger):
    old = MetaData()
    Table(
        "document",
        old,
        Column("id", Integer, primary_key=True),
        Column("title", String(50)),
        Column("_file_ref", StoredObjectRefType()),
    )
    project.migrate(old)
    with engine.begin() as connection:
        connection.execute(insert(old.tables["document"]).values(id=1, _file_ref=ref("document/1-abcd")))
    Base = models(file=FileColumn("documents", name="_file_ref", trigger=trigger))
    up, down = parts(project.migrate(Base))
    assert not any("add_column" in line or "alter_column" in line for line in up)
    made = {line.partition("(")[0] for line in up}
    assert {"op.create_table", "op.create_storage_outbox", "op.register_file_column"} <= made
    assert ("op.create_file_triggers('document', '_file_ref')" in up) is trigger
    assert "op.unregister_file_column('document', '_file_ref', objects='keep')" in down
    project.downgrade()
    assert project.differences(old) == []
    assert project.tables() == {"document"}
    with engine.connect() as connection:
        kept = connection.execute(old.tables["document"].select()).one()
    assert kept._file_ref.location == "document/1-abcd"


@pytest.mark.parametrize("type_", [StoredObjectRefType, JSON])
def test_a_column_that_is_no_file_field_any_more_keeps_its_values(project, engine, type_):
    Base = models(report="documents", cover=FileColumn("covers", trigger=True))
    project.migrate(Base)
    add_rows(engine, Base.Document.__table__, cover="covers/b")
    plain = models(report="documents")
    from sqlalchemy.dialects.postgresql import JSONB

    kind = type_() if type_ is StoredObjectRefType else JSON().with_variant(JSONB(), "postgresql")
    plain.Document.__table__.append_column(Column("cover", kind))
    up, down = parts(project.migrate(plain))
    assert "op.unregister_file_column('document', 'cover', objects='keep')" in up
    assert not any("drop_column" in line for line in up)
    assert "op.register_file_column('document', 'cover', policy='covers')" in down
    assert outbox(engine) == []
    project.downgrade()
    assert project.differences(Base) == []


def test_rows_of_columns_that_were_dropped_by_hand_are_forgotten(project, engine):
    Base = models(report="documents", cover=FileColumn("covers", location_index=False))
    project.migrate(Base)
    project.execute("ALTER TABLE document DROP COLUMN cover")
    up, down = parts(project.migrate(models(report="documents")))
    assert up == ["op.unregister_file_column('document', 'cover', objects='keep')"]
    assert down == ["op.register_file_column('document', 'cover', policy='covers')"]
    assert {row[1] for row in noted(engine, Base)} == {"report"}


def test_columns_that_the_user_filters_out_are_left_alone(project, engine):
    Base = models(report="documents", cover="covers")
    project.migrate(Base)
    project.configure(
        include_object=lambda item, name, kind, *_: (
            not (kind == "column" and name == "cover") and not (kind == "index" and "cover" in name)
        ),
        include_name=lambda name, kind, parents: not (kind == "column" and name == "cover__location"),
    )
    up, _ = parts(project.revision(models(report="documents")))
    assert not any("unregister" in line or "column" in line for line in up)


def test_a_registry_that_the_user_filters_out_is_not_written(project):
    project.configure(include_object=lambda item, name, *_: not str(name).startswith("granite_storage"))
    up, _ = parts(project.revision(models(report=FileColumn("documents", trigger=True))))
    assert {line.partition("(")[0] for line in up} <= {"op.create_table", "op.create_index", "op.execute"}
    project.upgrade()


def test_an_ordinary_text_column_is_not_made_a_file_column(project):
    """The text type of a column that was a file field stays what the models say."""
    project.configure(render_as_batch=True)
    project.migrate(models(report="documents", cover=FileColumn("covers")))
    plain = models(report="documents")
    plain.Document.__table__.append_column(Column("cover", Text()))
    script = project.revision(plain)
    if "type_=" in script:
        assert "type_=sa.Text()" in script.split("def downgrade")[0]


def test_a_column_that_the_user_filters_out_is_neither_rebound_nor_given_triggers(project):
    project.migrate(models(report="documents", cover=FileColumn("covers", trigger=True)))
    project.configure(include_object=lambda item, name, kind, *_: (kind, name) != ("column", "report"))
    up, down = parts(project.revision(models(report=FileColumn("archive", trigger=True), cover="covers")))
    assert (up, down) == (
        ["op.drop_file_triggers('document', 'cover')"],
        ["op.create_file_triggers('document', 'cover')"],
    )


def test_a_column_with_triggers_that_the_user_filters_out_keeps_them(project, engine):
    project.migrate(models(report="documents", cover=FileColumn("covers", trigger=True)))
    project.configure(
        include_object=lambda item, name, kind, *_: (
            not (kind == "column" and name == "cover") and not (kind == "index" and "cover" in name)
        ),
        include_name=lambda name, kind, parents: not (kind == "column" and name == "cover__location"),
    )
    assert parts(project.revision(models(report="documents"))) == ([], [])


def test_fields_of_other_applications_in_the_registry_are_left_alone(project, engine):
    other = models(table="other", report=FileColumn("documents", trigger=True), cover="covers")
    models(other.metadata, report="documents").metadata.create_all(engine)
    project.configure(
        include_object=lambda item, name, kind, reflected, same: not (kind == "table" and reflected and same is None)
    )
    assert parts(project.revision(models(report="documents"))) == ([], [])
    project.upgrade()
    up, _ = parts(project.migrate(models(report="archive")))
    assert up == ["op.rebind_file_column('document', 'report', 'documents', 'archive')"]
    assert {row for row in noted(engine, other) if row[0] == "other"} == {
        ("other", "report", "documents", TRIGGER_VERSION),
        ("other", "cover", "covers", None),
    }
