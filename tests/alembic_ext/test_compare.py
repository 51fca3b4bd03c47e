"""The migration of file fields as a whole, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Index, Inspector, Integer, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile
from tests.alembic_ext.projects import commands, nothing, with_files, without_files


@pytest.fixture(params=[False, True], ids=["plain", "batch"], autouse=True)
def render_as_batch(request, project):
    project.configure(render_as_batch=request.param)
    return request.param


def test_a_new_table_with_file_fields_is_migrated_up_and_down(project):
    project.migrate(with_files())
    project.downgrade("base")
    assert project.tables() == set()


def test_a_migrated_table_is_as_create_all_makes_it(project, engine):
    Base = with_files()
    Base.metadata.create_all(engine)
    by_create_all = project.schema()
    project.check(Base)
    Base.metadata.drop_all(engine)
    project.migrate(Base)
    assert project.schema() == by_create_all


def test_file_fields_work_on_the_migrated_schema(project, engine):
    Base = with_files()
    project.migrate(Base)
    policy = StoragePolicy("documents", backend_key="memory")
    manager = StorageManager(backends={"memory": "memory://"}, policies={"documents": policy})
    manager.attach(Base)
    with Session(engine) as session:
        session.add(Base.Document(title="one", report=b"abc", cover=b"cover"))
        session.commit()
        document = session.scalars(select(Base.Document).where(Base.Document.report.size == 3)).one()
        assert document.report.read() == b"abc"
        session.delete(document)
        session.commit()
    assert list(manager.backends["memory"].iter_locations()) == []


def test_fields_are_added_to_an_existing_table_and_taken_away_again(project):
    project.migrate(without_files())
    before = project.schema()
    project.migrate(with_files())
    project.downgrade()
    assert project.schema() == before
    assert project.differences(without_files()) == []


def test_dropped_fields_come_back_as_they_were(project):
    project.migrate(with_files())
    before = project.schema()
    project.migrate(without_files())
    project.downgrade()
    assert project.schema() == before
    assert project.differences(with_files()) == []


def test_a_dropped_table_comes_back_as_it_was(project):
    project.migrate(with_files())
    before = project.schema()
    project.migrate(nothing())
    assert project.tables() == set()
    project.downgrade()
    assert project.schema() == before
    assert project.differences(with_files()) == []


def test_a_field_that_may_no_longer_be_empty_keeps_its_index(project, render_as_batch, database):
    if database.name == "sqlite" and not render_as_batch:
        project.configure(render_as_batch=True)  # SQLite cannot alter a column otherwise
    project.migrate(with_files())
    before = project.schema()
    script = project.migrate(with_files(nullable=False))
    assert "nullable=False" in script
    assert project.schema()["document"]["report"][1] is False
    project.downgrade()
    assert project.schema() == before


@pytest.mark.parametrize("location_index", [False, True])
def test_a_location_index_that_is_turned_on_or_off_is_migrated(project, location_index):
    project.migrate(with_files(location_index=not location_index))
    before = project.schema()
    project.migrate(with_files(location_index=location_index))
    assert project.schema() != before
    project.downgrade()
    assert project.schema() == before


def test_a_project_without_file_fields_is_left_alone(project):
    script = project.migrate(without_files())
    assert [line.split("(")[0] for line in commands(script)] == ["op.create_table", "op.drop_table"]
    assert commands(project.revision(without_files())) == []


@pytest.mark.databases("postgresql", "mariadb")
def test_a_project_without_file_fields_may_be_on_a_database_that_tells_nothing_of_indexes(project, monkeypatch):
    """As some dialects do, which Alembic bears with."""

    def untold(*args, **options):
        raise NotImplementedError

    project.migrate(without_files())
    monkeypatch.setattr(Inspector, "get_indexes", untold)
    longer = without_files()
    longer.metadata.tables["document"].append_column(Column("pages", Integer))
    assert [line.partition("(")[0] for line in commands(project.migrate(longer))][-1].endswith("op.drop_column")


def test_the_script_imports_the_operations_and_neither_models_nor_policies(project):
    script = project.migrate(with_files())
    imports = [line for line in script.splitlines() if "import " in line and not line.startswith("from typing")]
    assert imports == [
        "from alembic import op",
        "import sqlalchemy as sa",
        "from sqlalchemy.dialects import mysql",
        "from sqlalchemy.dialects import postgresql",
        "import alembic_ext.operations  # noqa: F401 - what op. has for file fields",
    ]
    assert "server_default=sa.text(" in script


def test_the_outbox_and_the_registry_are_migrated_with_the_first_file_field(project):
    project.migrate(without_files())
    script = project.migrate(with_files())
    made = [
        line.split("'")[1] for line in commands(script) if line.startswith(("op.create_table", "op.create_storage"))
    ]
    assert made == ["granite_storage_fields", "granite_storage_outbox"]
    assert project.tables() == {"document", *made}
    project.migrate(without_files())
    assert project.tables() == {"document"}


def test_types_and_server_defaults_are_not_found_again(project, render_as_batch):
    project.configure(compare_type=True, compare_server_default=True, render_as_batch=render_as_batch)
    project.migrate(with_files())
    before = project.schema()
    project.migrate(nothing())
    project.downgrade()
    assert project.schema() == before
    assert project.differences(with_files()) == []


def test_a_column_of_refs_without_a_policy_is_portable_too(project):
    from granite_storage import StoredObjectRefType

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        _file_ref = mapped_column(StoredObjectRefType())

    script = project.migrate(Base)
    assert "sa.Column('_file_ref', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=True)" in script
    assert commands(script)[1:] == ["op.drop_table('document')"]


def test_names_that_need_quotes_are_quoted(project):
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "Order Lines"
        id: Mapped[int] = mapped_column(primary_key=True)
        select: FileMapped[StoredFile | None] = FileColumn("documents")
        spaced: FileMapped[StoredFile | None] = FileColumn("documents", name="Spaced Name")

    project.migrate(Base)
    before = project.schema()
    project.migrate(nothing())
    project.downgrade()
    assert project.schema() == before


def test_tables_that_the_user_filters_out_are_left_alone(project):
    project.configure(include_object=lambda item, name, kind, reflected, other: (kind, name) != ("table", "document"))
    assert [line for line in commands(project.revision(with_files())) if "'document'" in line] == []
    project.upgrade()
    assert "document" not in project.tables()
    project.configure()
    project.migrate(with_files(location_index=False))
    project.configure(include_object=lambda item, name, kind, reflected, other: (kind, name) != ("table", "document"))
    assert commands(project.revision(with_files())) == []


def test_an_index_that_the_user_filters_out_is_left_alone(project):
    project.configure(include_object=lambda item, name, kind, *_: kind != "index")
    made = {line.partition("(")[0] for line in commands(project.revision(with_files()))}
    assert "op.create_table" in made and not any("index" in command for command in made)


def test_a_location_index_that_the_user_filters_out_is_not_dropped(project):
    project.migrate(with_files())
    project.configure(include_object=lambda item, name, kind, *_: kind != "index")
    project.check(with_files())
    project.check(with_files(location_index=False))


def test_the_models_are_not_changed(project):
    Base = with_files()
    before = [repr(column.type) for column in Base.metadata.tables["document"].columns]
    project.migrate(Base)
    assert [repr(column.type) for column in Base.metadata.tables["document"].columns] == before


@pytest.mark.databases("sqlite", "postgresql")
def test_indexes_on_members_are_migrated_and_not_found_again(project):
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(50))
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    project.migrate(Base)
    plain = project.schema()
    for number, expressions in enumerate(
        [
            (Document.report.size,),
            (Document.report.content_type, Document.title),
            (Document.report.size.desc(), Document.id),
            (Document.report.created_at,),
            (Document.report.extra["page count"],),
            (func.lower(Document.report.filename),),
        ]
    ):
        Index(f"ix_member_{number}", *expressions, unique=number == 1)
    project.migrate(Base)
    with_indexes = project.schema()
    assert with_indexes != plain
    project.downgrade()
    assert project.schema() == plain
    project.upgrade()
    assert project.schema() == with_indexes
