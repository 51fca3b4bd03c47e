"""A world whose file columns have triggers, with a parent whose rows the database deletes children by itself."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Engine, ForeignKey, MetaData, String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import outbox_of
from tests.orm.worlds import FaultyBackend, World


class TriggerWorld(World):
    """Models, manager, engine: made anew for each test; the tables only when asked for."""

    def __init__(self, engine: Engine, schema: str | None = None) -> None:
        class Base(DeclarativeBase):
            metadata = MetaData(schema=schema, info=metadata_options(triggers=True))

        class Folder(Base):
            __tablename__ = "folder"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str | None] = mapped_column(String(50), unique=True)
            folder_id: Mapped[int | None] = mapped_column(ForeignKey(Folder.id, ondelete="CASCADE"))
            # without an index, which would refuse what is no ref
            report: FileMapped[StoredFile | None] = FileColumn("documents", location_index=False)
            scan: FileMapped[StoredFile | None] = FileColumn("documents")
            draft: FileMapped[StoredFile | None] = FileColumn("documents", trigger=False)

        self.Base, self.Folder, self.Document = Base, Folder, Document
        self.metadata, self.engine, self.backend = Base.metadata, engine, FaultyBackend()
        self.manager = StorageManager(
            {"memory": self.backend}, {"documents": StoragePolicy("documents", "memory", key_prefix="docs")}
        )
        self.manager.attach(Base)

    @property
    def outbox(self) -> Any:
        return outbox_of(self.metadata)

    def rows(self, connection: Connection) -> list[Any]:
        """What stands in the outbox, in the transaction of a connection."""
        return list(connection.execute(select(self.outbox).order_by(self.outbox.c.id)))

    def freed(self, connection: Connection | None = None) -> list[str]:
        """The locations in the outbox, sorted."""
        if connection is not None:
            return sorted(row.location for row in self.rows(connection))
        with self.engine.connect() as own:
            return self.freed(own)

    def location(self, number: int, field: str = "report") -> str:
        """Which object a committed document names."""
        with self.session() as session:
            location: str = getattr(session.get_one(self.Document, number), field).location
            return location

    def sql(self, *statements: str) -> None:
        """Commit statements that the ORM does not see."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))


def ref_text(location: str, **members: Any) -> str:
    """A ref as raw SQL writes it."""
    return json.dumps({"backend": "memory", "location": location, **members})
