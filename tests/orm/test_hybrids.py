"""Flat names beside a file field, for whatever knows only flat attributes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, MappedAsDataclass, aliased, mapped_column

from granite_storage import ConfigurationError, FileColumn, FileMapped, StoredFile, Upload


def hybrids_of(model: type[Any]) -> set[str]:
    from sqlalchemy import inspect

    return {
        name
        for name, descriptor in inspect(model).all_orm_descriptors.items()
        if isinstance(descriptor, hybrid_property) or "hybrid" in str(getattr(descriptor, "extension_type", "")).lower()
    }


def test_size_type_and_filename_have_flat_names_by_default(Document):
    assert hybrids_of(Document) == {
        f"{field}_{member}" for field in ("report", "cover") for member in ("size", "content_type", "filename")
    }


def test_they_work_on_both_sides(session, Document):
    document = Document(report=Upload(b"%PDF-1.7", filename="a.pdf"))
    session.add_all([document, Document()])
    assert (document.report_size, document.report_filename) == (8, "a.pdf")
    session.commit()
    assert (document.report_size, document.report_content_type, document.report_filename) == (
        8,
        "application/pdf",
        "a.pdf",
    )
    assert document.cover_size is None
    row = session.execute(
        select(Document.report_size, Document.report_content_type, Document.report_filename).where(
            Document.report_size > 1
        )
    ).one()
    assert row == (8, "application/pdf", "a.pdf")
    assert session.scalar(select(Document.id).where(Document.report_content_type == "application/pdf")) == document.id
    assert (
        session.scalars(select(Document.report_size).order_by(Document.report_size.desc()).limit(2)).all().count(8) == 1
    )
    assert session.scalar(select(func.sum(Document.report_size))) == 8
    other = aliased(Document)
    assert session.scalars(select(other.report_size).where(other.report_size > 1)).all() == [8]


def test_a_row_names_them(session, Document):
    session.add(Document(report=b"123"))
    session.flush()
    row = session.execute(select(Document.report_size, Document.report_filename)).one()
    assert (row.report_size, row.report_filename) == (3, None)


def test_filter_by_takes_them(session, Document):
    session.add(Document(report=b"123"))
    session.flush()
    assert session.scalars(select(Document).filter_by(report_size=3)).one().report.read() == b"123"


def test_they_exist_as_soon_as_the_class_does(Base):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    assert isinstance(
        Document.__dict__["report_size"], hybrid_property
    )  # with no mapper configured, nothing instantiated


def test_hybrids_chooses_members(Base):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents", hybrids=("created_at", "location"))
        scan: FileMapped[StoredFile | None] = FileColumn("documents", hybrids=())
        note: FileMapped[StoredFile | None] = FileColumn("documents", hybrids="checksum")

    assert hybrids_of(Document) == {"report_created_at", "report_location", "note_checksum"}


def test_a_member_that_does_not_exist_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"hybrids names 'colour', which is no member; there are size, content_type"
    ):
        FileColumn("documents", hybrids=("size", "colour"))


def test_a_name_that_the_model_has_is_left_alone(Base, open_session):
    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")
        report_size: Mapped[int | None]

        @property
        def report_filename(self) -> str:
            return "mine"

    session = open_session()
    document = Document(report=b"123", report_size=7)
    session.add(document)
    session.commit()
    assert (document.report_size, document.report_filename) == (7, "mine")
    assert hybrids_of(Document) == {"report_content_type"}


def test_a_subclass_inherits_them(Base):
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        photo: FileMapped[StoredFile | None] = FileColumn("covers")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Author(Person):
        __mapper_args__ = {"polymorphic_identity": "author"}
        contract: FileMapped[StoredFile | None] = FileColumn("documents", nullable=True)

    assert "photo_size" not in Author.__dict__
    assert Author(photo=b"12").photo_size == 2
    assert "contract_size" in Author.__dict__
    assert not hasattr(Person, "contract_size")


def test_a_dataclass_has_them_and_its_init_does_not(Base):
    class Document(MappedAsDataclass, Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        report: FileMapped[StoredFile | None] = FileColumn("documents", default=None)

    assert Document(b"12").report_size == 2
    with pytest.raises(TypeError, match="report_size"):
        Document(report_size=1)


def test_they_cannot_be_set(Document):
    with pytest.raises(AttributeError):
        Document().report_size = 5


def test_from_attributes_finds_them(session, Document):
    from pydantic import BaseModel, ConfigDict

    class DocumentOut(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        report_size: int | None
        report_filename: str | None
        cover_content_type: str | None

    session.add(Document(report=Upload(b"1234", filename="r.txt")))
    session.commit()
    out = DocumentOut.model_validate(session.scalars(select(Document)).one())
    assert out.model_dump() == {"report_size": 4, "report_filename": "r.txt", "cover_content_type": None}


def test_bulk_inserted_rows_have_them(session, Document, manager):
    session.execute(insert(Document), [{"report": manager.store("documents", b"12345")}])
    assert session.scalars(select(Document)).one().report_size == 5
