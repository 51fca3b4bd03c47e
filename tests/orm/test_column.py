"""FileColumn is a column like any other: in every way that SQLAlchemy has to declare, load and write one."""

from __future__ import annotations

import dataclasses
import io
import pickle
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    func,
    insert,
    inspect,
    literal,
    select,
    union_all,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    column_property,
    declared_attr,
    defer,
    load_only,
    mapped_column,
    registry,
    undefer,
)

from granite_storage import (
    ConfigurationError,
    FileColumn,
    FileMapped,
    NotStoredError,
    StagedValueError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    UnassignableError,
    Upload,
)
from granite_storage.testing.strategies import contents, filenames, refs

Report = Annotated[StoredFile | None, FileColumn("documents")]


def columns_of(table: str, session: Session) -> set[str]:
    return {column["name"] for column in inspect(session.connection()).get_columns(table)}


def works(model: type[Any], session: Session, field: str = "report") -> Any:
    """A file is assigned, stored, loaded by another session, searched by its members, replaced and cleared."""
    made = model()
    setattr(made, field, Upload(b"%PDF-1.7 one", filename="one.pdf"))
    session.add(made)
    session.commit()
    key = inspect(made).identity
    session.expunge_all()
    loaded = session.get(model, key)
    file = getattr(loaded, field)
    assert isinstance(file, StoredFile)
    assert (file.read(), file.filename, file.content_type) == (b"%PDF-1.7 one", "one.pdf", "application/pdf")
    attribute = getattr(model, field)
    assert session.scalar(select(attribute.size).where(attribute.filename == "one.pdf")) == 12
    assert session.scalar(select(model).where(attribute == file)) is loaded
    assert getattr(loaded, f"{field}_size") == 12
    assert 12 in session.scalars(select(getattr(model, f"{field}_size")))
    setattr(loaded, field, b"two")
    session.commit()
    assert getattr(loaded, field).read() == b"two"
    setattr(loaded, field, None)
    session.commit()
    assert getattr(loaded, field) is None
    assert not file.exists()
    setattr(loaded, field, b"three")
    session.commit()
    return loaded


# Ways to declare it


def test_with_an_annotation(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    works(Document, open_session())


def test_without_an_annotation(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id = mapped_column(Integer, primary_key=True)
        report = FileColumn("documents")

    works(Document, open_session())


def test_with_sqlalchemys_own_annotation(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: Mapped[StoredFile | None] = FileColumn("documents")

    works(Document, open_session())


@pytest.mark.parametrize("annotation", [FileMapped, Mapped])
def test_an_annotation_without_none_makes_the_column_not_null(Base, annotation):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        __annotations__["report"] = annotation[StoredFile]
        report = FileColumn("documents")

    assert Document.__table__.c.report.nullable is False


def test_nullable_false_makes_the_column_not_null(Base, Document):
    class Other(Base):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile] = FileColumn("documents", nullable=False)

    assert Other.__table__.c.report.nullable is False
    assert Document.__table__.c.report.nullable is True
    assert Document.__table__.c.cover.nullable is True


def test_several_fields_each_with_its_policy(session, Document, manager):
    document = Document(report=b"a report", cover=b"a cover")
    session.add(document)
    session.commit()
    assert (document.report.storage_key, document.report.backend) == ("documents", "memory")
    assert (document.cover.storage_key, document.cover.backend) == ("covers", "disk")
    assert list(manager.backends["memory"].iter_locations()) == [document.report.location]
    assert list(manager.backends["disk"].iter_locations()) == [document.cover.location]


def test_a_mapped_dataclass(manager, open_session, Base):
    class Data(MappedAsDataclass, Base):
        __abstract__ = True

    class Document(Data):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        report: FileMapped[StoredFile | None] = FileColumn("documents", default=None)
        note: FileMapped[StoredFile | None] = FileColumn("documents", default=None, kw_only=True, repr=False)
        scan: FileMapped[StoredFile | None] = FileColumn("documents", init=False)

    session = open_session()
    works(Document, session)
    document = Document(b"positional", note=b"by keyword")
    session.add(document)
    session.commit()
    assert (document.report.read(), document.note.read(), document.scan) == (b"positional", b"by keyword", None)
    assert "report=<StoredFile documents memory:docs/" in repr(document)
    assert "note" not in repr(document)
    assert {field.name: field.init for field in dataclasses.fields(Document)}["scan"] is False
    with pytest.raises(TypeError, match="scan"):
        Document(scan=b"")


def test_a_mapped_dataclass_that_requires_a_file(Base):
    class Document(MappedAsDataclass, Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        report: FileMapped[StoredFile] = FileColumn("documents", nullable=False)

    with pytest.raises(TypeError, match="report"):
        Document()
    assert Document(b"here").report.read() == b"here"


def test_a_mixin(Base, open_session):
    class HasReport:
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    class Document(HasReport, Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Invoice(HasReport, Base):
        __tablename__ = "invoice"
        id: Mapped[int] = mapped_column(primary_key=True)

    session = open_session()
    works(Document, session)
    works(Invoice, session)
    homes = [model.__table__.c.report.type.home for model in (Document, Invoice)]
    assert [str(home) for home in homes] == ["document.report", "invoice.report"]


def test_a_declared_attr_of_a_mixin(Base, open_session):
    class HasReport:
        @declared_attr
        def report(cls) -> FileMapped[StoredFile | None]:
            return FileColumn("documents", name=f"{cls.__name__.lower()}_report")

    class Document(HasReport, Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)

    works(Document, open_session())
    assert "document_report" in Document.__table__.c


def test_an_abstract_base(Base, open_session):
    class WithReport(Base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    class Document(WithReport):
        __tablename__ = "document"

    class Invoice(WithReport):
        __tablename__ = "invoice"

    session = open_session()
    works(Document, session)
    works(Invoice, session)


def test_joined_inheritance(Base, open_session):
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        photo: FileMapped[StoredFile | None] = FileColumn("covers")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Author(Person):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        contract: FileMapped[StoredFile | None] = FileColumn("documents")
        __mapper_args__ = {"polymorphic_identity": "author"}

    session = open_session()
    works(Person, session, "photo")
    works(Author, session, "photo")
    works(Author, session, "contract")
    author = Author(photo=b"face", contract=b"signed")
    session.add(author)
    session.commit()
    key = author.id
    session.expunge_all()
    loaded = session.get(Person, key)
    assert (loaded.photo.read(), loaded.contract.read()) == (b"face", b"signed")
    assert not hasattr(Person, "contract_size")


def test_single_table_inheritance(Base, open_session):
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        photo: FileMapped[StoredFile | None] = FileColumn("covers")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Author(Person):
        contract: FileMapped[StoredFile | None] = FileColumn("documents", use_existing_column=True)
        __mapper_args__ = {"polymorphic_identity": "author"}

    class Editor(Person):
        contract: FileMapped[StoredFile | None] = FileColumn("documents", use_existing_column=True)
        __mapper_args__ = {"polymorphic_identity": "editor"}

    session = open_session()
    works(Person, session, "photo")
    works(Author, session, "photo")
    works(Author, session, "contract")
    works(Editor, session, "contract")
    session.add_all([Author(contract=b"author's"), Editor(contract=b"editor's own")])
    session.flush()
    for size in (Author.contract.size, Author.contract_size):
        assert set(session.scalars(select(size).where(size > 7))) == {8}  # an Editor's row is no Author's
    assert [index.name for index in Person.__table__.indexes if "contract" in index.name] == [
        "ix_person__contract__location"
    ]


def test_imperative_mapping(manager, open_session, Base):
    mapper_registry = registry(metadata=Base.metadata)
    table = Table(
        "document",
        mapper_registry.metadata,
        Column("id", Integer, primary_key=True),
        Column("report", StoredObjectRefType("documents")),
    )

    class Document:
        pass

    mapper_registry.map_imperatively(Document, table)
    works(Document, open_session())
    mapper_registry.dispose()


def test_imperative_mapping_under_another_name(open_session, Base):
    mapper_registry = registry(metadata=Base.metadata)
    table = Table(
        "document",
        mapper_registry.metadata,
        Column("id", Integer, primary_key=True),
        Column("report_json", StoredObjectRefType("documents")),
    )

    class Document:
        pass

    mapper_registry.map_imperatively(Document, table, properties={"report": table.c.report_json})
    works(Document, open_session())
    mapper_registry.dispose()


def test_a_declared_table(Base, open_session):
    class Document(Base):
        __table__ = Table(
            "document",
            Base.metadata,
            Column("id", Integer, primary_key=True),
            Column("report", StoredObjectRefType("documents")),
        )

    works(Document, open_session())


def test_annotated(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[Report]
        scan: Mapped[Report]

    session = open_session()
    works(Document, session)
    works(Document, session, "scan")
    homes = [Document.__table__.c[name].type.home for name in ("report", "scan")]
    assert [str(home) for home in homes] == ["document.report", "document.scan"]


def test_a_type_annotation_map(manager, open_session, Base):
    class Mapping(DeclarativeBase):
        metadata = Base.metadata
        type_annotation_map = {StoredFile: StoredObjectRefType("documents")}

    class Document(Mapping):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None]
        scan: FileMapped[StoredFile | None]

    session = open_session()
    works(Document, session)
    works(Document, session, "scan")


def test_one_type_given_to_two_columns_knows_each_of_them(Base):
    type_ = StoredObjectRefType("documents")
    table = Table("document", Base.metadata, Column("report", type_), Column("scan", type_))
    assert [str(column.type.home) for column in table.c] == ["document.report", "document.scan"]
    assert {index.name for index in table.indexes} == {"ix_document__report__location", "ix_document__scan__location"}


def test_a_column_with_a_name_that_must_be_quoted(Base, open_session):
    class Document(Base):
        __tablename__ = "select"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", name="The Report")

    session = open_session()
    works(Document, session)
    assert "The Report" in columns_of("select", session)


def test_a_field_that_is_added_to_a_mapped_class(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)

    Document.report = FileColumn("documents")
    works(Document, open_session())


def test_a_deferred_field(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", deferred=True)

    session = open_session()
    works(Document, session)
    session.expunge_all()
    document = session.scalars(select(Document)).one()
    assert "report" not in document.__dict__
    assert document.report.read() == b"three"


def test_a_metadata_copy_has_the_field_too(engine, manager, Document):
    from sqlalchemy import MetaData

    copy = MetaData()
    table = Document.__table__.to_metadata(copy)
    manager.attach(copy)
    copy.create_all(engine)
    assert [index.name for index in table.indexes if "report" in index.name] == ["ix_document__report__location"]
    assert str(table.c.report.type.home) == "document.report"
    assert table.c.report.type.home.metadata is copy


def test_options_of_mapped_column_reach_the_column(Base):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", comment="the report", info={"label": "Report"})

    column = Document.__table__.c.report
    assert (column.comment, column.info["label"]) == ("the report", "Report")


def test_a_policy_that_is_no_name_is_refused():
    with pytest.raises(ConfigurationError, match="takes the name of a storage policy, not"):
        FileColumn(StoragePolicy("documents", "memory"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes the name of a storage policy, not ''"):
        FileColumn("")


# What SQLAlchemy does with a column


@pytest.fixture
def document(session, Document):
    """A committed document with a report."""
    made = Document(title="Annual", report=Upload(b"the report", filename="r.txt"))
    session.add(made)
    session.commit()
    return made


def test_aliased(session, Document, document):
    other = aliased(Document)
    session.add(Document(report=b"longer than the other"))
    session.flush()
    pairs = select(Document.id, other.report.size).join(other, other.report.size > Document.report.size)
    assert session.execute(pairs).all() == [(document.id, 21)]
    assert session.scalars(select(other.report).where(other.report_size == 10)).one().read() == b"the report"


def test_a_label(session, Document, document):
    row = session.execute(select(Document.report.label("file"), Document.report.size.label("bytes"))).one()
    assert (row.file.read(), row.bytes) == (b"the report", 10)


@pytest.mark.parametrize("kind", ["subquery", "cte"])
def test_a_subquery_and_a_cte(session, Document, document, kind):
    inner = getattr(select(Document.id, Document.report.label("file")), kind)()
    row = session.execute(select(inner.c.file, inner.c.file.size).where(inner.c.file.filename == "r.txt")).one()
    assert isinstance(row.file, StoredFile)
    assert row.file.read() == b"the report"
    assert row[1] == 10


def test_an_entity_from_a_subquery(session, Document, document):
    entity = aliased(Document, select(Document).where(Document.report.size > 1).subquery())
    assert session.scalars(select(entity)).one() is document


def test_a_union(session, Document, document):
    session.add(Document(report=b"another"))
    session.flush()
    both = union_all(
        select(Document.report).where(Document.id == document.id),
        select(Document.report).where(Document.id != document.id),
    )
    assert sorted(file.read() for file in session.scalars(both)) == [b"another", b"the report"]
    whole = aliased(Document, union_all(select(Document), select(Document).where(literal(1) == 0)).subquery())
    assert sorted(one.report.read() for one in session.scalars(select(whole))) == [b"another", b"the report"]


def test_coalesce_gives_a_file(session, Document, document):
    found = session.scalars(select(func.coalesce(Document.cover, Document.report))).one()
    assert found.read() == b"the report"


def test_load_only(open_session, session, Document, document):
    other = open_session()
    found = other.scalars(select(Document).options(load_only(Document.report))).one()
    assert "title" not in found.__dict__
    assert found.__dict__["report"].read() == b"the report"
    without = open_session().scalars(select(Document).options(load_only(Document.title))).one()
    assert "report" not in without.__dict__
    assert without.report_size == 10


def test_defer_and_undefer(open_session, session, Document, document):
    found = open_session().scalars(select(Document).options(defer(Document.report))).one()
    assert "report" not in found.__dict__
    assert found.report.read() == b"the report"
    again = open_session().scalars(select(Document).options(undefer(Document.report))).one()
    assert "report" in again.__dict__


def test_a_deferred_field_that_may_not_be_loaded_says_so(open_session, session, Document, document):
    found = open_session().scalars(select(Document).options(defer(Document.report, raiseload=True))).one()
    with pytest.raises(Exception, match="raiseload"):
        _ = found.report


def test_refresh_forgets_a_staged_upload_and_loads_the_row(session, open_session, Document, document):
    document.report = b"staged"
    session.refresh(document)
    assert document.report.read() == b"the report"
    assert not session.dirty
    key = document.id
    session.rollback()
    with open_session() as other:
        other.get(Document, key).report = b"newer"
        other.commit()
    session.refresh(document, ["report"])
    assert document.report.read() == b"newer"


def test_expire_loads_again(session, Document, document):
    before = document.report
    session.expire(document, ["report"])
    assert "report" not in document.__dict__
    assert document.report == before
    assert document.report is not before


def test_merge_of_a_detached_object_is_no_change(session, open_session, manager, Document, document):
    session.refresh(document)
    session.close()
    before = list(manager.backends["memory"].iter_locations())
    other = open_session()
    merged = other.merge(document)
    other.commit()
    assert merged.report.read() == b"the report"
    assert list(manager.backends["memory"].iter_locations()) == before


def test_merge_takes_a_staged_upload_along(session, open_session, manager, Document, document):
    session.refresh(document)
    session.close()
    document.report = b"changed while detached"
    other = open_session()
    merged = other.merge(document)
    other.commit()
    assert merged.report.read() == b"changed while detached"
    assert list(manager.backends["memory"].iter_locations()) == [merged.report.location]


def test_merge_of_a_new_object_stores_its_upload(session, manager, Document):
    merged = session.merge(Document(report=b"new"))
    session.commit()
    assert merged.report.read() == b"new"


def test_merge_without_loading(session, open_session, Document, document):
    session.refresh(document)
    session.close()
    other = open_session()
    merged = other.merge(document, load=False)
    assert "report" in merged.__dict__
    assert merged.report.read() == b"the report"
    other.commit()
    merged.report = b"replaced"
    other.commit()
    assert merged.report.read() == b"replaced"


def test_a_column_property_over_a_file_field(Base, Document, open_session):
    class Summary(Base):
        __tablename__ = "summary"
        id: Mapped[int] = mapped_column(primary_key=True)
        largest = column_property(select(func.max(Document.report.size)).scalar_subquery())

    session = open_session()
    session.add_all([Document(report=b"12345"), Document(report=b"1"), Summary()])
    session.commit()
    assert session.scalars(select(Summary)).one().largest == 5


# Pickling


def _module_level_model() -> Any:
    class Base(DeclarativeBase):
        pass

    return Base


PickleBase = _module_level_model()


class Pickled(PickleBase):
    __tablename__ = "pickled"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("documents")


@pytest.fixture
def pickled_manager(manager):
    manager.attach(PickleBase.metadata)
    yield manager
    PickleBase.metadata.info.clear()


@pytest.mark.parametrize("used", [False, True])
def test_a_pickled_model_finds_its_manager_again(engine, pickled_manager, used):
    PickleBase.metadata.create_all(engine)
    with Session(engine) as session:
        made = Pickled(report=b"kept")
        session.add(made)
        session.commit()
        session.refresh(made)
        if used:
            assert made.report.size == 4
        copy = pickle.loads(pickle.dumps(made))
    assert copy is not made
    assert copy.report.read() == b"kept"
    with Session(engine) as session:
        session.add(copy)
        copy.report = b"replaced after pickling"
        session.commit()
        assert copy.report.read() == b"replaced after pickling"


def test_a_pickled_file_by_itself_says_how_to_get_one(pickled_manager):
    stored = pickled_manager.store("documents", b"alone")
    copy = pickle.loads(pickle.dumps(stored))
    assert copy == stored
    assert copy.size == 5
    with pytest.raises(ConfigurationError, match=r"manager\.file\(stored\.ref\)"):
        copy.read()
    assert pickled_manager.file(copy.ref).read() == b"alone"


def test_a_staged_upload_cannot_be_pickled():
    with pytest.raises(NotStoredError, match="flush the session first"):
        pickle.dumps(Pickled(report=b"staged"))


# Assignment


class ReadableOnly:
    """A binary stream that can do nothing but read."""

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.rest.read(size)


def test_every_assignable_is_stored(session, Document, manager, tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"content")
    with open(path, "rb") as opened:
        values = [
            b"content",
            bytearray(b"content"),
            memoryview(b"content"),
            "content",
            path,
            opened,
            io.BytesIO(b"content"),
            ReadableOnly(b"content"),
            Upload(b"content"),
            manager.store("documents", b"content"),
            manager.store("documents", b"content").ref,
            manager.put_bytes(
                storage_key="documents", model_name="document", entity_id=1, field_name="report", content=b"content"
            ),
        ]
        documents = [Document(report=value) for value in values]
        session.add_all(documents)
        session.commit()
    assert [document.report.read() for document in documents] == [b"content"] * len(values)
    assert len({document.report.location for document in documents}) == len(values)
    assert len(list(manager.backends["memory"].iter_locations())) == len(values)


@pytest.mark.parametrize(
    "value", [{"location": "docs/a"}, 7, 1.5, object(), io.StringIO("text"), ["a"], Path("/nowhere")]
)
def test_what_is_not_assignable_is_refused_at_assignment(Document, value):
    document = Document()
    with pytest.raises(UnassignableError):
        document.report = value
    with pytest.raises(UnassignableError):
        Document(report=value)
    assert document.report is None


# Core statements


def test_bulk_insert_takes_stored_files_and_refs(session, Document, manager):
    stored = [manager.store("documents", content) for content in (b"one", b"two")]
    session.execute(insert(Document), [{"title": "1", "report": stored[0]}, {"title": "2", "report": stored[1].ref}])
    session.execute(insert(Document), [{"title": "3", "report": None}])
    session.commit()
    found = session.execute(select(Document.title, Document.report).order_by(Document.title)).all()
    assert [file and file.read() for _, file in found] == [b"one", b"two", None]


def test_bulk_insert_with_returning_gives_files(session, Document, manager):
    if not session.connection().dialect.insert_executemany_returning:
        statement = insert(Document).returning(Document)
        documents = [
            session.scalars(statement, {"report": manager.store("documents", body)}).one() for body in (b"a", b"b")
        ]
    else:
        rows = [{"report": manager.store("documents", body)} for body in (b"a", b"b")]
        documents = session.scalars(insert(Document).returning(Document, sort_by_parameter_order=True), rows).all()
    assert [document.report.read() for document in documents] == [b"a", b"b"]


def test_insert_values_returning_the_field_gives_a_file(session, Document, manager):
    stored = manager.store("documents", b"direct")
    returned = session.execute(insert(Document).values(report=stored).returning(Document.report, Document.report.size))
    row = returned.one()
    assert isinstance(row[0], StoredFile)
    assert (row[0].read(), row[1]) == (b"direct", 6)


def test_a_core_insert_on_the_table(session, Document, manager):
    stored = manager.store("documents", b"core")
    session.execute(Document.__table__.insert(), [{"report": stored}])
    assert session.scalars(select(Document.__table__.c.report)).one().read() == b"core"


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("value", [Upload(b"x"), b"x", "x", Path(__file__), io.BytesIO(b"x"), {"location": "docs/a"}])
def test_a_staged_value_in_a_core_statement_is_a_clear_error(session, Document, value, several):
    table = Document.__table__
    with pytest.raises(StagedValueError, match=r"document\.report.*manager\.store\(policy, source\)"):
        if several:
            session.execute(table.insert(), [{"title": "a", "report": value}, {"title": "b", "report": value}])
        else:
            session.execute(table.insert().values(title="a", report=value))
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_a_staged_file_in_a_core_statement_is_a_clear_error(session, Document):
    staged = Document(report=b"x").report
    for statement in (
        Document.__table__.insert().values(report=staged),
        Document.__table__.insert().values([{"report": staged}, {"report": None}]),
        Document.__table__.update().values(report=staged),
    ):
        with pytest.raises(StagedValueError, match="unstored"):
            session.execute(statement)
    with pytest.raises(StagedValueError, match="flush the session"):
        session.execute(select(Document).where(Document.report == staged))


# Every ref


@pytest.mark.parametrize("policy", ["documents", None])
def test_any_ref_survives_a_column(engine, Base, policy):
    table = Table(
        "kept", Base.metadata, Column("id", Integer, primary_key=True), Column("ref", StoredObjectRefType(policy))
    )
    Base.metadata.create_all(engine)

    @settings(max_examples=60)
    @given(refs())
    def survives(ref: StoredObjectRef) -> None:
        with engine.connect() as connection:
            connection.execute(table.insert().values(id=1, ref=ref))
            loaded = connection.execute(select(table.c.ref)).scalar_one()
            read = loaded.ref if isinstance(loaded, StoredFile) else loaded
            assert read.to_dict() == ref.to_dict()
            members = (table.c.ref.size, table.c.ref.location, table.c.ref.filename, table.c.ref.content_type)
            found = connection.execute(select(*members).where(table.c.ref.location == ref.location)).one()
            assert tuple(found) == (ref.size, ref.location, ref.original_filename, ref.content_type)

    survives()


def test_any_content_and_filename_survive_a_field(session, Document):
    @settings(max_examples=25)
    @given(contents(), filenames())
    def survives(content: bytes, filename: str) -> None:
        upload = Upload(content, filename=filename)
        document = Document(report=upload)
        session.add(document)
        session.flush()
        session.refresh(document)
        assert document.report.read() == content
        assert document.report.filename == upload.filename
        session.rollback()

    survives()


def test_the_manager_of_a_field_is_asked_for_only_when_a_file_is_used(memory_engine):
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    Base.metadata.create_all(memory_engine)
    with Session(memory_engine) as session:
        session.add(Document(report=b"nobody stores this"))
        with pytest.raises(ConfigurationError, match=r"document\.report has no manager: call manager\.attach\(Base\)"):
            session.flush()
        session.rollback()
        manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
        manager.attach(Base)
        document = Document(report=b"now it does")
        session.add(document)
        session.commit()
        assert document.report.read() == b"now it does"
