"""Each file column has an index on its locations, and the databases use it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import FileColumn, FileMapped, StoredFile, StoredObjectRef, StoredObjectRefType, indexed_location
from granite_storage.orm.location_index import location_index_name
from granite_storage.orm.member_index import generated_column_name


def plan_of(connection: Connection, statement: Any) -> str:
    """What the query planner says it will do."""
    compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return " | ".join(
        str(tuple(row)) for row in connection.execute(text(f"{explain} {str(compiled).replace(':', chr(92) + ':')}"))
    )


def ref(number: int) -> StoredObjectRef:
    return StoredObjectRef("documents", "memory", f"docs/{number}", number, "sha256:00")


def fill(connection: Connection, table: Table) -> None:
    """Enough rows for an index to pay, and what the planner has to know of them."""
    connection.execute(insert(table), [{"report": ref(number)} for number in range(2000)])
    analyze = (
        "ANALYZE TABLE" if connection.dialect.name == "mariadb" or connection.dialect.name == "mysql" else "ANALYZE"
    )
    connection.exec_driver_sql(f"{analyze} {table.name}")


def test_the_location_index_is_used(session, Document):
    connection, table = session.connection(), Document.__table__
    fill(connection, table)
    statement = select(table.c.id).where(indexed_location(connection, table.c.report) == "docs/7")
    assert "ix_document__report__location" in plan_of(connection, statement)
    assert connection.scalars(statement).all() == [table_id(connection, table, 7)]
    among = select(table.c.id).where(indexed_location(connection, table.c.report).in_(["docs/7", "docs/8"]))
    assert "ix_document__report__location" in plan_of(connection, among)
    assert len(connection.scalars(among).all()) == 2


def table_id(connection: Connection, table: Table, size: int) -> int:
    return connection.scalar(select(table.c.id).where(table.c.report.size == size))


@pytest.mark.databases("sqlite", "postgresql")
def test_the_operators_use_the_location_index_too(session, Document):
    connection = session.connection()
    fill(connection, Document.__table__)
    for criterion in (
        Document.report == ref(7),
        Document.report.location == "docs/7",
        Document.report.in_([ref(7), ref(8)]),
    ):
        assert "ix_document__report__location" in plan_of(connection, select(Document.id).where(criterion))


@pytest.mark.databases("sqlite", "postgresql")
def test_an_index_of_ones_own_on_a_member_is_used(session, Document):
    connection = session.connection()
    Index("ix_document_report_size", Document.report.size).create(connection)
    Index("ix_document_report_type", Document.report.content_type, Document.report.size).create(connection)
    fill(connection, Document.__table__)
    assert "ix_document_report_size" in plan_of(connection, select(Document.id).where(Document.report.size == 7))
    assert "ix_document_report_size" in plan_of(connection, select(Document.id).where(Document.report_size > 1998))
    both = (Document.report.content_type == "image/png") & (Document.report.size > 7)
    assert "ix_document_report_type" in plan_of(connection, select(Document.id).where(both))


@pytest.mark.databases("sqlite", "postgresql")
def test_an_index_of_ones_own_can_be_declared_with_the_class(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    Index("ix_document_report_size", Document.report.size)
    assert "ix_document_report_size" in {index.name for index in Document.__table__.indexes}
    session = open_session()
    connection = session.connection()
    fill(connection, Document.__table__)
    assert "ix_document_report_size" in plan_of(connection, select(Document.id).where(Document.report.size == 7))


@pytest.mark.databases("mariadb")
def test_on_mariadb_an_invisible_generated_column_holds_the_location(session, Document):
    connection, table = session.connection(), Document.__table__
    columns = {column["name"]: column for column in inspect(connection).get_columns("document")}
    assert columns["report__location"]["computed"]["persisted"] is False
    fill(connection, table)
    visible = connection.exec_driver_sql("SELECT * FROM document LIMIT 1").keys()
    assert list(visible) == ["id", "title", "report", "cover"]
    searched = str(indexed_location(connection, table.c.report).compile(connection))
    assert searched == "document.report__location"


@pytest.mark.databases("mariadb")
def test_on_mariadb_a_table_without_the_generated_column_is_searched_by_the_expression(engine, manager):
    metadata = MetaData()
    table = Table(
        "document",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("report", StoredObjectRefType("documents", location_index=False)),
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "report": ref(7)}])
        found = select(table.c.id).where(indexed_location(connection, table.c.report) == "docs/7")
        assert connection.scalars(found).all() == [1]
        assert "JSON_VALUE" in str(found.compile(connection))


def test_the_index_can_be_turned_off(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", location_index=False)

    session = open_session()
    assert Document.__table__.indexes == set()
    assert inspect(session.connection()).get_indexes("document") == []
    assert {column["name"] for column in inspect(session.connection()).get_columns("document")} == {"id", "report"}


def test_a_mapped_attribute_is_as_good_as_its_column(session, Document):
    connection = session.connection()
    by_attribute = indexed_location(connection, Document.report).compile(connection)
    assert str(by_attribute) == str(indexed_location(connection, Document.__table__.c.report).compile(connection))


def test_every_file_column_has_its_own(Document):
    names = {index.name for index in Document.__table__.indexes}
    assert names == {"ix_document__report__location", "ix_document__cover__location"}


def test_a_type_without_a_policy_has_none(Base):
    table = Table("plain", Base.metadata, Column("ref", StoredObjectRefType()))
    assert table.indexes == set()


def test_a_long_name_is_cut_and_stays_unique():
    long, longer = "t" * 50, "t" * 51
    names = {location_index_name(table, "report") for table in (long, longer)}
    names.add(generated_column_name("c" * 70, "location"))
    assert len(names) == 3
    assert all(len(name.encode()) <= 60 for name in names)
    assert location_index_name("документ" * 8, "report").isprintable()


def test_long_names_work_on_every_database(Base, open_session):
    class Document(Base):
        __tablename__ = "a_table_whose_name_is_nearly_as_long_as_databases_allow"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn(
            "documents", name="a_column_whose_name_is_nearly_as_long_as_they_allow"
        )

    session = open_session()
    document = Document(report=b"123")
    session.add(document)
    session.commit()
    column = Document.__table__.c[1]
    found = select(Document.id).where(indexed_location(session.connection(), column) == document.report.location)
    assert session.scalars(found).all() == [document.id]


def test_the_index_is_not_taken_for_one_of_another_column(engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    class Photo(Base):
        __tablename__ = "photo"
        id: Mapped[int] = mapped_column(primary_key=True)
        photo_location: Mapped[str] = mapped_column(String(50), index=True)
        photo: FileMapped[StoredFile | None] = FileColumn("documents")

    class A(Base):
        __tablename__ = "a_b"
        id: Mapped[int] = mapped_column(primary_key=True)
        c: FileMapped[StoredFile | None] = FileColumn("documents")

    class B(Base):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)
        b_c: FileMapped[StoredFile | None] = FileColumn("documents")

    Base.metadata.create_all(engine)
    models = (Photo.__table__, A.__table__, B.__table__)
    names = [index.name for table in models for index in table.indexes]
    assert sorted(names) == [
        "ix_a__b_c__location",
        "ix_a_b__c__location",
        "ix_photo__photo__location",
        "ix_photo_photo_location",
    ]
