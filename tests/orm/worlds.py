"""A small world to test the lifecycle in: models, a manager whose storage fails when told, and what must be true."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, ForeignKey, ForeignKeyConstraint, String, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from granite_storage import (
    FileColumn,
    FileMapped,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
)
from granite_storage.ownership import is_mark


class FaultyBackend(MemoryStorageBackend):
    """A memory backend that fails, waits or tells when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.before_put: Callable[[str], object] = lambda key: None
        self.before_delete: Callable[[str], object] = lambda location: None

    def put_stream(self, **arguments: Any) -> StoredObjectRef:
        if not is_mark(arguments["key"]):
            self.before_put(arguments["key"])
        return super().put_stream(**arguments)

    def delete(self, ref: StoredObjectRef) -> None:
        self.before_delete(ref.location)
        super().delete(ref)

    def delete_many(self, refs: Any) -> Any:
        for ref in refs:
            self.before_delete(ref.location)
        return super().delete_many(refs)


class World:
    """Models, manager, engine: made anew for each test."""

    def __init__(self, engine: Engine) -> None:
        class Base(DeclarativeBase):
            pass

        class Folder(Base):
            __tablename__ = "folder"
            id: Mapped[int] = mapped_column(primary_key=True)
            documents: Mapped[list[Document]] = relationship(
                lambda: Document, cascade="all, delete-orphan", back_populates="folder"
            )

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str | None] = mapped_column(String(50), unique=True)
            folder_id: Mapped[int | None] = mapped_column(ForeignKey(Folder.id))
            folder: Mapped[Folder | None] = relationship(Folder, back_populates="documents")
            report: FileMapped[StoredFile | None] = FileColumn("documents")
            scan: FileMapped[StoredFile | None] = FileColumn("documents")
            cover: FileMapped[StoredFile | None] = FileColumn("covers")

        class Person(Base):
            __tablename__ = "person"
            country: Mapped[str] = mapped_column(String(2), primary_key=True)
            number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            kind: Mapped[str] = mapped_column(String(10))
            photo: FileMapped[StoredFile | None] = FileColumn("covers")
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

        class Author(Person):
            __tablename__ = "author"
            country: Mapped[str] = mapped_column(String(2), primary_key=True)
            number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            contract: FileMapped[StoredFile | None] = FileColumn("documents")
            __table_args__ = (ForeignKeyConstraint(["country", "number"], ["person.country", "person.number"]),)
            __mapper_args__ = {"polymorphic_identity": "author"}

        self.Base, self.Folder, self.Document, self.Person, self.Author = Base, Folder, Document, Person, Author
        self.engine = engine
        self.backend = FaultyBackend()
        self.manager = StorageManager(
            {"memory": self.backend},
            {
                "documents": StoragePolicy("documents", "memory", key_prefix="docs"),
                "covers": StoragePolicy("covers", "memory", max_size=1000),
            },
            max_workers=4,
        )
        self.manager.attach(Base)
        Base.metadata.create_all(engine)

    def session(self, **options: Any) -> Session:
        return Session(self.engine, **options)

    def add(self, **members: Any) -> int:
        """Commit a document and give its id."""
        with self.session() as session:
            document = self.Document(**members)
            session.add(document)
            session.commit()
            return document.id

    def contents(self) -> list[bytes]:
        """What is stored, sorted."""
        return sorted(self.backend.get(_ref(location)) for location in self.objects())

    def objects(self) -> set[str]:
        """The locations of all stored objects."""
        return set(self.backend.iter_locations())

    def named(self) -> list[str]:
        """The locations that rows name, read by plain SQL."""
        locations = []
        with self.engine.connect() as connection:
            for table in self.Base.metadata.sorted_tables:
                for column in table.columns:
                    if hasattr(column.type, "policy"):
                        for (value,) in connection.execute(text(f"SELECT {column.name} FROM {table.name}")):
                            ref = json.loads(value) if isinstance(value, str) else value
                            if ref is not None:
                                locations.append(ref["location"])
        return locations

    def check(self) -> None:
        """Rows and objects agree: none missing, none left over, none shared."""
        named = self.named()
        assert len(named) == len(set(named)), "two fields share an object"
        assert set(named) - self.objects() == set(), "a row names a missing object"
        assert self.objects() - set(named) == set(), "an object is nobody's"
        for location in named:
            ref = self.manager.backend_of(_ref(location))
            assert ref is self.backend

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL that is sent meanwhile."""
        sent: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            sent.append(statement)

        event.listen(self.engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(self.engine, "before_cursor_execute", note)


class OneShot:
    """A stream that cannot seek, as a socket or a pipe."""

    def __init__(self, content: bytes) -> None:
        self._left = content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        taken = self._left if size < 0 else self._left[:size]
        self._left = self._left[len(taken) :]
        return taken


def in_thread(call: Callable[[], object]) -> Callable[[], None]:
    """Start ``call`` in a thread; what is given back waits for it and raises what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> None:
        thread.join(30)
        assert not thread.is_alive(), "the thread hangs"
        if raised:
            raise raised[0]

    return join


def _ref(location: str) -> StoredObjectRef:
    return StoredObjectRef("", "memory", location, 0, "")
