"""Wrong uses, each on a line that is marked; mypy --strict and pyright must report these lines and no others."""

from __future__ import annotations

import io
from typing import TextIO

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("documents")
    contract: FileMapped[StoredFile] = FileColumn("documents", nullable=False)
    cover = FileColumn("covers")
    seal = FileColumn("covers", nullable=False)


class Nullable(Base):
    __tablename__ = "nullable"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile] = FileColumn("documents")  # wrong
    policy = FileColumn(StoragePolicy("documents", "memory"))  # wrong
    number = FileColumn(5)  # wrong
    option = FileColumn("documents", no_such_option=True)  # wrong


class Letter(MappedAsDataclass, DeclarativeBase):
    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    scan: FileMapped[StoredFile] = FileColumn("documents", nullable=False)


def assignment(document: Document, text: TextIO) -> None:
    document.report = {"location": "docs/a"}  # wrong
    document.report = 5  # wrong
    document.report = 1.5  # wrong
    document.report = object()  # wrong
    document.report = ["docs/a"]  # wrong
    document.report = io.StringIO("text")  # wrong
    document.report = text  # wrong
    document.contract = None  # wrong
    document.cover = {}  # wrong
    document.seal = None  # wrong
    document.report = select(Document.report)  # wrong


def reading(document: Document) -> None:
    document.report.read()  # wrong
    _ = document.cover.size  # wrong
    document.contract.read()
    _ = document.contract.no_such_member  # wrong
    document.contract.size = 5  # wrong
    text: str = document.contract.read()  # wrong
    _ = text


def class_side() -> None:
    _ = Document.contract.size.no_such_member  # wrong
    size: str = Document.report.size  # wrong
    _ = size


def constructing() -> None:
    Letter(scan={"location": "docs/a"})  # wrong
    Letter(scan=None)  # wrong


def manager_side(manager: StorageManager, stored: StoredFile) -> None:
    manager.store(5, b"content")  # wrong
    manager.get("docs/a")  # wrong
    manager.put_bytes("documents", "document", 1, "report", b"content")  # wrong
    manager.file(5)  # wrong
    StoragePolicy("documents", "memory", 5, "docs", 1)  # wrong
    stored.ref.size = 5  # wrong
