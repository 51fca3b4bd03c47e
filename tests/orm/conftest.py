"""Models for the tests of the ORM side: a base that a manager serves, and a document with two file fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile


@pytest.fixture
def manager(tmp_path: Path) -> StorageManager:
    """A manager with a backend in memory and one on disk, and a policy for each."""
    return StorageManager(
        {"memory": "memory://", "disk": f"file://{tmp_path}/stored?fsync=false"},
        {
            "documents": StoragePolicy("documents", "memory", key_prefix="docs"),
            "covers": StoragePolicy("covers", "disk", max_size=1000),
        },
    )


@pytest.fixture
def Base(manager: StorageManager) -> Iterator[type[Any]]:
    """A declarative base that the manager serves."""

    class Base(DeclarativeBase):
        pass

    manager.attach(Base)
    yield Base
    Base.registry.dispose()


@pytest.fixture
def Document(Base: type[Any]) -> type[Any]:
    """A model with two file fields."""

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None] = mapped_column(String(50))
        report: FileMapped[StoredFile | None] = FileColumn("documents")
        cover = FileColumn("covers")

    return Document


OpenSession = Callable[..., Session]


@pytest.fixture
def open_session(engine: Engine, Base: type[Any]) -> Iterator[OpenSession]:
    """Opens sessions on a database that has the tables of ``Base``; they are closed after the test."""
    opened: list[Session] = []

    def open_session(**options: Any) -> Session:
        Base.metadata.create_all(engine)
        opened.append(Session(engine, **options))
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()


@pytest.fixture
def session(open_session: OpenSession, Document: type[Any]) -> Session:
    """A session on a database that has the table of ``Document``."""
    return open_session()
