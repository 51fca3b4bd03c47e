"""The column type: refs in the database, files in Python, nothing decoded before it is used."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    bindparam,
    create_mock_engine,
    event,
    func,
    insert,
    literal_column,
    null,
    select,
    text,
    type_coerce,
    update,
)  # fmt: skip
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    InvalidRefError,
    NotStoredError,
    StagedValueError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    Upload,
    portable_storage_ref_type,
)

REF = StoredObjectRef(
    "documents", "memory", "docs/1", 5, "sha256:00", original_filename="a.txt", extra={"n": [1, {"m": None}]}
)


@pytest.fixture
def plain(engine):
    """A table with a column of refs that has no policy, as 0.1.0 declared it."""
    metadata = MetaData()
    table = Table("plain", metadata, Column("id", Integer, primary_key=True), Column("ref", StoredObjectRefType()))
    metadata.create_all(engine)
    return table


def test_the_repr_names_the_policy():
    assert repr(StoredObjectRefType("documents")) == "StoredObjectRefType('documents')"
    assert repr(StoredObjectRefType()) == "StoredObjectRefType()"


@pytest.mark.parametrize(
    "type_", [StoredObjectRefType("documents"), StoredObjectRefType(), portable_storage_ref_type()]
)
def test_the_column_is_json_and_jsonb_on_postgresql(type_):
    assert str(type_.compile(dialect=sqlite.dialect())) == "JSON"
    assert str(type_.compile(dialect=postgresql.dialect())) == "JSONB"
    assert str(type_.compile(dialect=mysql.dialect())) == "JSON"


def test_a_type_without_a_policy_loads_refs_with_every_member(engine, plain):
    later = {**REF.to_dict(), "member_of_a_later_version": {"deep": [1, 2]}}
    with engine.begin() as connection:
        connection.execute(plain.insert(), [{"id": 1, "ref": REF}, {"id": 2, "ref": later}, {"id": 3, "ref": None}])
        one, two, three = connection.scalars(select(plain.c.ref).order_by(plain.c.id)).all()
    assert type(one) is StoredObjectRef
    assert one.to_dict() == REF.to_dict()
    assert two.to_dict() == later
    assert three is None


def test_a_type_without_a_policy_binds_a_ref_a_dict_a_file_and_none(engine, plain, manager):
    values = [REF, REF.to_dict(), manager.file(REF), None]
    with engine.begin() as connection:
        connection.execute(plain.insert(), [{"id": n, "ref": value} for n, value in enumerate(values, 1)])
        loaded = connection.scalars(select(plain.c.ref).order_by(plain.c.id)).all()
        assert [one and one.to_dict() for one in loaded] == [REF.to_dict()] * 3 + [None]
        assert connection.scalar(select(func.count()).where(text("ref IS NULL")).select_from(plain)) == 1


def test_none_is_sql_null(session, Document):
    session.add_all([Document(), Document(report=None)])
    session.flush()
    assert session.scalar(select(func.count()).select_from(Document).where(text("report IS NULL"))) == 2


def test_a_loaded_value_is_not_decoded_before_it_is_used(session, Document):
    session.execute(insert(Document.__table__), [{"report": REF}])
    file = session.scalars(select(Document)).one().report
    assert isinstance(file._value, str)
    assert file.filename == "a.txt"
    assert isinstance(file._value, StoredObjectRef)


@pytest.mark.parametrize("value", [{"legacy_inline_text": "hello"}, {}, [1], 7, "text", {"location": "docs/1"}])
def test_a_value_that_is_no_ref_loads_and_is_an_error_on_use(session, Document, value):
    table = Document.__table__
    session.execute(insert(table), [{"title": "bad"}])
    session.execute(update(table).values(report=type_coerce(value, portable_storage_ref_type())))
    document = session.scalars(select(Document)).one()
    assert repr(document.report) == "<StoredFile unreadable>"
    for use in (
        lambda: document.report.size,
        lambda: document.report_size,
        document.report.read,
        document.report.exists,
    ):
        with pytest.raises(InvalidRefError, match=r"not a ref|a ref is a JSON object"):
            use()


def test_legacy_inline_text_says_how_to_convert_it(session, Document, engine, plain):
    table = Document.__table__
    session.execute(insert(table), [{"title": "old"}])
    session.execute(
        update(table).values(report=type_coerce({"legacy_inline_text": "hello"}, portable_storage_ref_type()))
    )
    document = session.scalars(select(Document)).one()
    with pytest.raises(InvalidRefError, match=r"legacy_inline_text.*op\.convert_to_file_column\("):
        document.report.read()
    # tests/maintenance/ingest does what it says; here it is by hand
    inline = session.scalars(select(type_coerce(Document.report, portable_storage_ref_type()))).one()
    document.report = inline["legacy_inline_text"]
    session.commit()
    assert document.report.text() == "hello"


def test_a_value_that_is_no_ref_can_be_replaced_and_cleared(session, Document, manager):
    table = Document.__table__
    session.execute(insert(table), [{"title": str(n)} for n in range(4)])
    session.execute(update(table).values(report=type_coerce({"legacy_inline_text": "x"}, portable_storage_ref_type())))
    one, two, three, four = session.scalars(select(Document).order_by(Document.id)).all()
    one.report = b"new"
    two.report = manager.store("documents", b"stored")
    three.report = None
    session.delete(four)
    session.commit()
    assert (one.report.read(), two.report.read(), three.report) == (b"new", b"stored", None)


def test_without_a_policy_a_value_that_is_no_ref_loads_and_is_an_error_on_use(engine, plain):
    with engine.begin() as connection:
        connection.execute(plain.insert().values(id=1))
        bad = type_coerce({"legacy_inline_text": "hello"}, portable_storage_ref_type())
        connection.execute(plain.update().values(ref=bad))
        loaded = connection.scalar(select(plain.c.ref))
    with pytest.raises(InvalidRefError, match="legacy_inline_text"):
        _ = loaded.location


def test_without_a_policy_a_dict_that_is_no_ref_is_not_written(engine, plain):
    with engine.connect() as connection, pytest.raises(Exception, match="member 'backend' is missing"):
        connection.execute(plain.insert().values(id=1, ref={"location": "docs/1"}))


def test_an_upload_is_never_written_by_a_type_without_a_policy(engine, plain):
    for value in (Upload(b"x"), b"x", 5):
        with engine.connect() as connection, pytest.raises(StagedValueError, match="unstored"):
            connection.execute(plain.insert().values(id=1, ref=value))


def test_a_bound_file_in_a_statement_has_the_columns_type(session, Document, manager):
    stored = manager.store("documents", b"12345")
    session.execute(insert(Document), [{"title": "a"}])
    session.execute(
        update(Document.__table__).where(Document.title == "a").values(report=bindparam("file")), {"file": stored}
    )
    assert session.scalars(select(Document.report)).one() == stored
    session.execute(update(Document.__table__).values(report=null()))
    assert session.scalars(select(Document.report)).one() is None


def test_types_with_the_same_policy_share_a_cache_key_and_others_do_not():
    def key(type_: Any) -> Any:
        return type_._static_cache_key

    assert key(StoredObjectRefType("a")) == key(StoredObjectRefType("a"))
    assert key(StoredObjectRefType("a")) != key(StoredObjectRefType("b"))
    assert key(StoredObjectRefType("a")) != key(StoredObjectRefType())


def test_two_models_of_one_policy_keep_their_own_managers(memory_engine, tmp_path):
    """Compiled statements are shared by equal types; the homes of what they load must not be."""

    class Base(DeclarativeBase):
        pass

    class Other(DeclarativeBase):
        pass

    models = []
    for base in (Base, Other):

        class Document(base):
            __tablename__ = f"document_{base.__name__.lower()}"
            id: Mapped[int] = mapped_column(primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")

        StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")}).attach(base)
        base.metadata.create_all(memory_engine)
        models.append(Document)
    with Session(memory_engine) as session:
        session.add_all([model(report=model.__tablename__) for model in models])
        session.commit()
        session.expunge_all()
        for model in models:
            assert session.scalars(select(model)).one().report.text() == model.__tablename__
            assert session.scalars(select(func.coalesce(model.report, None))).one().text() == model.__tablename__


def test_selected_text_needs_the_type_to_be_a_file(session, Document):
    session.execute(insert(Document.__table__), [{"report": REF}])
    raw = session.scalars(select(literal_column("report")).select_from(Document)).one()
    assert not isinstance(raw, StoredFile)
    coerced = session.scalars(
        select(type_coerce(literal_column("report"), Document.report.type)).select_from(Document)
    ).one()
    assert coerced.ref.to_dict() == REF.to_dict()


@pytest.mark.databases("postgresql")
def test_on_postgresql_the_driver_does_not_decode_either(session, Document, engine):
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda conn, cur, statement, *rest: sent.append(statement))
    session.scalars(select(Document)).all()
    assert "CAST(document.report AS TEXT)" in sent[-1]


def test_the_ddl_of_a_file_column_is_that_of_a_json_column(Document):
    statements: list[str] = []
    engine = create_mock_engine(
        "postgresql://", lambda ddl, *_, **__: statements.append(str(ddl.compile(dialect=engine.dialect)))
    )
    Document.__table__.create(engine, checkfirst=False)
    assert "report JSONB" in statements[0]
    assert "CREATE INDEX ix_document__report__location ON document ((report ->> 'location'))" in statements


def test_a_staged_file_has_no_ref_to_bind():
    type_ = StoredObjectRefType("documents")
    table = Table("document", MetaData(), Column("report", type_))
    with pytest.raises(StagedValueError, match=r"document\.report"):
        table.c.report.type.process_bind_param(StoredFile(table.c.report.type.home, Upload(b"x")), sqlite.dialect())
    with pytest.raises(NotStoredError):
        _ = StoredFile(type_.home, Upload(b"x")).ref


def test_the_portable_type_needs_neither_models_nor_policies(engine):
    metadata = MetaData()
    table = Table("bare", metadata, Column("id", Integer, primary_key=True), Column("ref", portable_storage_ref_type()))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert().values(id=1, ref=REF.to_dict()))
        assert StoredObjectRef.from_dict(connection.scalar(select(table.c.ref))) == REF
    assert isinstance(portable_storage_ref_type().dialect_impl(postgresql.dialect()), JSONB)
