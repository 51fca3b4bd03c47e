"""What a type checker infers with no cast on the user's side; checked by mypy --strict and pyright, never run."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, assert_type

from sqlalchemy import Engine, SQLColumnExpression, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, aliased, mapped_column
from starlette.datastructures import UploadFile
from werkzeug.datastructures import FileStorage

from granite_storage import (
    Candidate,
    FileColumn,
    FileMapped,
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    Upload,
    ValidationError,
    Validator,
    indexed_location,
    indexed_member,
)


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    title: Mapped[str]
    report: FileMapped[StoredFile | None] = FileColumn("documents")
    contract: FileMapped[StoredFile] = FileColumn("documents", nullable=False)
    sketch: Mapped[StoredFile | None] = FileColumn(
        "documents", name="_file_ref", location_index=False, indexes=["checksum"], hybrids=("size",)
    )
    cover = FileColumn("covers")
    seal = FileColumn("covers", nullable=False)


Report = Annotated[StoredFile | None, FileColumn("documents")]


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[Report]


class Data(MappedAsDataclass, DeclarativeBase):
    pass


class Letter(Data):
    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    scan: FileMapped[StoredFile] = FileColumn("documents", nullable=False)
    note: FileMapped[StoredFile | None] = FileColumn("documents", default=None)


# The instance side


def instance_side(document: Document, invoice: Invoice) -> None:
    assert_type(document.report, StoredFile | None)
    assert_type(document.contract, StoredFile)
    assert_type(document.sketch, StoredFile | None)
    assert_type(document.cover, StoredFile | None)
    assert_type(document.seal, StoredFile)
    assert_type(invoice.report, StoredFile | None)


def what_a_file_can_do(file: StoredFile, path: Path) -> None:
    assert_type(file.open(), BinaryIO)
    assert_type(file.read(), bytes)
    assert_type(file.text(), str)
    pieces: Iterator[bytes] = file.iter_bytes(1024)
    assert_type(next(pieces), bytes)
    assert_type(file.save_to(path), Path)
    with file.as_path() as real:
        assert_type(real, Path)
    assert_type(file.exists(), bool)
    file.verify()
    assert_type(file.ref, StoredObjectRef)
    assert_type(file.size, int)
    assert_type(file.content_type, str | None)
    assert_type(file.filename, str | None)
    assert_type(file.location, str)
    assert_type(file.checksum, str)
    assert_type(file.created_at, datetime | None)
    assert_type(file.extra["key"], Any)


async def the_same_awaited(file: StoredFile, path: Path) -> None:
    async with file.aopen() as stream:
        assert_type(await stream.read(10), bytes)
        async for chunk in stream:
            assert_type(chunk, bytes)
    assert_type(await file.aread(), bytes)
    assert_type(await file.atext(), str)
    async for piece in file.aiter_bytes():
        assert_type(piece, bytes)
    assert_type(await file.asave_to(path), Path)
    assert_type(await file.aexists(), bool)
    await file.averify()


# Assignment of everything assignable


class DjangoUpload:
    """The shape of Django's UploadedFile, which comes without types of its own."""

    name: str | None = None
    content_type: str | None = None
    file: BinaryIO = io.BytesIO()

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        yield b""


def assignment(document: Document, stored: StoredFile, form: UploadFile, posted: FileStorage, old: Document) -> None:
    document.report = None
    document.report = b"bytes"
    document.report = bytearray()
    document.report = memoryview(b"")
    document.report = "text"
    document.report = Path("report.pdf")
    with open("report.pdf", "rb") as opened:
        document.report = opened
    document.report = io.BytesIO()
    document.report = stored.open()
    document.report = Upload(b"content", filename="a.pdf", content_type="application/pdf", extra={"k": 1})
    document.report = form
    document.report = posted
    document.report = DjangoUpload()
    document.report = stored
    document.report = stored.ref
    document.report = old.report
    document.contract = old.contract
    document.contract = b"bytes"
    document.cover = Path("cover.png")
    document.cover = None
    document.seal = io.BytesIO()


def constructors(path: Path) -> None:
    Document(title="Annual Report", report=path, contract=b"", cover=None)
    Letter(scan=b"scan")
    Letter(scan=path, note=Upload(b"note"))
    Letter(path, None)


# The class side


def class_side(session: Session) -> None:
    size: SQLColumnExpression[int] = Document.report.size
    kind: SQLColumnExpression[str] = Document.report.content_type
    made: SQLColumnExpression[datetime] = Document.report.created_at
    statement = select(Document).where(
        size > 1_000_000,
        kind == "image/png",
        made > datetime.now(),
        Document.cover.filename.endswith(".png"),
        Document.report.location == "docs/a",
        Document.report.checksum.in_(["sha256:00"]),
        Document.report.storage_key == "documents",
        Document.report.backend != "s3",
        Document.report.extra["camera", "model"].as_string() == "X100",
        Document.report.is_(None),
        Document.contract.is_not(None),
        Document.report == Document.cover,
    )
    assert_type(session.scalars(statement).one(), Document)
    session.execute(select(Document.report, Document.report.size, Document.contract)).one()
    assert_type(session.scalars(select(Document.report.size)).one(), int)
    assert_type(session.scalars(select(Document.contract)).one(), StoredFile)
    assert_type(session.scalars(select(Document.report)).all()[0], StoredFile | None)
    session.execute(
        select(Document.cover.content_type, func.sum(Document.cover.size))
        .group_by(Document.cover.content_type)
        .order_by(Document.cover.size.desc())
    )
    other = aliased(Document)
    session.execute(select(other.report.size).where(other.report.size > Document.report.size))
    session.execute(select(Document.id).where(indexed_location(session.connection(), Document.report) == "docs/a"))
    assert_type(session.scalars(select(indexed_member(session.connection(), Document.report.size))).one(), int)
    session.execute(select(Document.id).order_by(indexed_member(session.connection(), other.report.created_at).desc()))


# The manager


def is_small(candidate: Candidate) -> None:
    if candidate.size is not None and candidate.size > 10:
        raise ValidationError("too large")


def manager_side(engine: Engine, upload: Upload) -> None:
    validator: Validator = is_small
    backend: StorageBackend = LocalStorageBackend("/var/uploads")
    manager = StorageManager(
        backends={"local": "file:///var/uploads", "other": backend, "memory": MemoryStorageBackend()},
        policies={
            "documents": StoragePolicy("documents", "local", 10 * 2**20, "docs"),
            "covers": StoragePolicy("covers", backend_key="other", content_types=("image/*",), validators=(validator,)),
        },
    )
    manager.attach(Base, Data.metadata, engine=engine)
    assert_type(manager.store("documents", upload), StoredFile)
    assert_type(manager.copy("covers", manager.store("documents", "text")), StoredFile)
    assert_type(manager.file({"backend": "local"}), StoredFile)
    ref = manager.put_bytes(
        storage_key="documents", model_name="document", entity_id=1, field_name="report", content=b""
    )
    assert_type(ref, StoredObjectRef)
    assert_type(manager.get(ref), bytes)
    with manager.open(ref) as stream:
        assert_type(stream, BinaryIO)
    assert_type(manager.exists(ref), bool)
    with manager.override() as inside:
        assert_type(inside, StorageManager)


async def manager_side_awaited(manager: StorageManager, upload: Upload, stream: BinaryIO) -> None:
    stored = await manager.astore("documents", upload)
    assert_type(stored, StoredFile)
    assert_type(
        await manager.aput_stream(
            storage_key="documents", model_name="document", entity_id=1, field_name="report", stream=stream
        ),
        StoredObjectRef,
    )
    assert_type(await manager.aget(stored.ref), bytes)
    async with await manager.aopen(stored.ref) as reader:
        assert_type(await reader.read(), bytes)
    await manager.adelete(stored.ref)
    assert_type(await manager.aexists(stored.ref), bool)
