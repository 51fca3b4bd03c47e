"""``FileColumn(indexes=...)``: members that are indexed on every database, and are searched by one expression."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, insert, inspect, select
from sqlalchemy.orm import Mapped, aliased, mapped_column

from granite_storage import (
    ConfigurationError,
    FileColumn,
    FileMapped,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    indexed_member,
)
from granite_storage.orm.member_index import MEMBERS, member_index_name
from tests.orm.test_location_index import plan_of

INDEXES = tuple(member for member in MEMBERS if member != "location")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def ref(number: int) -> StoredObjectRef:
    """A ref whose every member is another."""
    return StoredObjectRef(
        f"policy{number}", f"backend{number}", f"docs/{number}", number, f"sha256:{number:064}",
        content_type=f"text/x-{number}", original_filename=f"{number}.txt",
        created_at=(BEGIN + timedelta(days=number)).isoformat(timespec="microseconds"),
    )  # fmt: skip


SEVENTH: dict[str, Any] = {
    "size": 7, "content_type": "text/x-7", "filename": "7.txt", "checksum": f"sha256:{7:064}",
    "created_at": BEGIN + timedelta(days=7), "storage_key": "policy7", "backend": "backend7", "location": "docs/7",
}  # fmt: skip


@pytest.fixture
def Document(Base):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", indexes=INDEXES)

    return Document


@pytest.fixture
def connection(Document, open_session):
    """With enough rows for an index to pay, and what the planner has to know of them."""
    connection = open_session().connection()
    connection.execute(
        insert(Document.__table__), [{"id": number + 1, "report": ref(number)} for number in range(2000)]
    )
    analyze = "ANALYZE TABLE" if connection.dialect.name == "mariadb" else "ANALYZE"
    connection.exec_driver_sql(f"{analyze} document")
    return connection


def test_every_database_uses_the_index_of_each_member(connection: Connection, Document: Any) -> None:
    for member, value in SEVENTH.items():
        place = indexed_member(connection, getattr(Document.report, member))
        statement = select(Document.id).where(place == value)
        assert member_index_name("document", "report", member) in plan_of(connection, statement)
        assert connection.scalars(statement).all() == [8]


def test_ranges_and_orders_use_it(connection: Connection, Document: Any) -> None:
    size = indexed_member(connection, Document.report.size)
    largest = select(Document.id).order_by(size.desc()).limit(3)
    assert "ix_document__report__size" in plan_of(connection, largest)
    assert connection.scalars(largest).all() == [2000, 1999, 1998]
    moment = indexed_member(connection, Document.report.created_at)
    first = select(Document.id, moment).where(moment < BEGIN + timedelta(days=2)).order_by(moment)
    assert "ix_document__report__created_at" in plan_of(connection, first)
    assert [tuple(row) for row in connection.execute(first)] == [(1, BEGIN), (2, BEGIN + timedelta(days=1))]


def test_hybrids_and_aliases_are_as_good_as_the_member(connection: Connection, Document: Any) -> None:
    flat = select(Document.id).where(indexed_member(connection, Document.report_size) == 7)
    assert "ix_document__report__size" in plan_of(connection, flat)
    other = aliased(Document)
    joined = (
        select(Document.id, other.id)
        .join(other, indexed_member(connection, other.report.size) == Document.id)
        .where(indexed_member(connection, Document.report.filename) == "7.txt")
    )
    assert connection.execute(joined).all() == [(8, 9)]
    inner = select(Document.report).subquery()
    assert connection.scalars(select(indexed_member(connection, inner.c.report.size)).limit(1)).all()


@pytest.mark.databases("mariadb")
def test_on_mariadb_the_generated_columns_are_invisible_and_hold_the_member(connection: Connection) -> None:
    columns = {column["name"]: column for column in inspect(connection).get_columns("document")}
    assert isinstance(columns["report__size"]["type"], BigInteger)
    assert columns["report__content_type"]["type"].collation == "utf8mb4_bin"
    assert list(connection.exec_driver_sql("SELECT * FROM document LIMIT 1").keys()) == ["id", "report"]


@pytest.mark.parametrize("length", [300, 3000])
def test_a_filename_of_any_length_is_stored_and_found(connection: Connection, Document: Any, length: int) -> None:
    for number, end in enumerate("ab"):
        data = {**ref(3000 + number).to_dict(), "original_filename": "é" * length + end}
        connection.execute(
            insert(Document.__table__), [{"id": 3000 + number, "report": StoredObjectRef.from_dict(data)}]
        )
    place = indexed_member(connection, Document.report.filename)
    found = select(Document.id).where(place == "é" * length + "b")
    assert connection.scalars(found).all() == [3001]


@pytest.mark.databases("mariadb")
def test_a_member_without_a_generated_column_is_searched_by_the_expression(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE plain (id INTEGER, report JSON)")
    table = Table("plain", MetaData(), Column("id", Integer), Column("report", StoredObjectRefType()))
    assert "JSON_VALUE" in str(indexed_member(connection, table.c.report.size).compile(connection))


def test_fields_of_core_tables_and_copies_of_tables_have_them_too() -> None:
    table = Table("document", MetaData(), Column("report", StoredObjectRefType("documents", indexes="size")))
    copy = table.to_metadata(MetaData(), name="paper")
    assert {index.name for index in table.indexes} == {"ix_document__report__location", "ix_document__report__size"}
    assert {index.name for index in copy.indexes} == {"ix_paper__report__location", "ix_paper__report__size"}


def test_a_field_of_a_mixin_gives_each_table_its_own(Base: Any) -> None:
    class HasReport:
        report: FileMapped[StoredFile | None] = FileColumn("documents", location_index=False, indexes=["size", "size"])

    for name in ("one", "two"):
        body = {"__tablename__": name, "id": mapped_column(Integer, primary_key=True)}
        table = type(name.title(), (HasReport, Base), body).__table__
        assert {index.name for index in table.indexes} == {f"ix_{name}__report__size"}


@pytest.mark.parametrize(
    ("indexes", "remedy"), [(["sise"], "there are size, content_type"), ("location", "location_index=True says that")]
)
def test_what_is_no_member_is_refused(indexes: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        FileColumn("documents", indexes=indexes)


def test_a_column_without_a_policy_takes_none() -> None:
    with pytest.raises(ConfigurationError, match="takes a policy"):
        StoredObjectRefType(indexes=["size"])


def test_only_a_member_can_be_searched(connection: Connection, Document: Any) -> None:
    for wrong in (Document.report, Document.id, Document.report.extra["pages"]):
        with pytest.raises(ConfigurationError, match=r"takes a member of a file field such as Document\.report\.size"):
            indexed_member(connection, wrong)


@pytest.mark.databases("mariadb")
def test_a_column_of_the_same_name_is_told_before_the_table_is_made(Base: Any, engine: Any) -> None:
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report__size: Mapped[str] = mapped_column(String(50))
        report: FileMapped[StoredFile | None] = FileColumn("documents", indexes=["size"])

    with pytest.raises(ConfigurationError, match=r"'report__size'.*rename yours"):
        Base.metadata.create_all(engine)
    assert not inspect(engine).has_table("document")
