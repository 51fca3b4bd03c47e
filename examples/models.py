"""The models of the demo: people and their documents, with file fields under two policies."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, ForeignKey, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile


class Base(DeclarativeBase):
    """What the migrations compare the database with."""


class Person(Base):
    """Somebody with a portrait."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    portrait: FileMapped[StoredFile] = FileColumn("images", nullable=False)
    documents: Mapped[list[Document]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Document(Base):
    """A document: its report, and a picture for its cover if it has one."""

    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    author: Mapped[Person] = relationship(back_populates="documents")
    report: FileMapped[StoredFile] = FileColumn("documents", nullable=False)
    cover: FileMapped[StoredFile | None] = FileColumn("images")


def make_manager(folder: Path) -> StorageManager:
    """A manager that keeps files below ``folder``, attached to the models."""
    manager = StorageManager(
        backends={"local": folder.as_uri()},
        policies={
            "documents": StoragePolicy("documents", "local", max_size=64 * 1024, key_prefix="docs"),
            "images": StoragePolicy("images", "local", max_size=16 * 1024, content_types=("image/*",)),
        },
    )
    manager.attach(Base)
    return manager


def make_engine(url: str) -> Engine:
    """An SQLite engine whose savepoints are real: the driver begins nothing by itself, SQLAlchemy's event does."""
    engine = create_engine(url, connect_args={"isolation_level": None})

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
