"""A table with values in old columns, and a file column beside them that they are to become files of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Integer, LargeBinary, String, Table, Text, insert, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, StoredObjectRefType
from granite_storage.maintenance.ingest import Conversion, ConversionReport, ingest, put_back
from granite_storage.orm.outbox import outbox_of
from granite_storage.ownership import is_mark

__all__ = ["Archive"]


class Archive:
    """Model, manager and engine; nothing is in the table yet.

    :param root: the folder of the store.
    :param policy: options of the policy.
    :param file: options of the file column.
    """

    def __init__(
        self,
        engine: Engine,
        root: Path,
        *,
        policy: Mapping[str, Any] | None = None,
        file: Mapping[str, Any] | None = None,
    ) -> None:
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[bytes | None] = mapped_column(LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"))
            note: Mapped[str | None] = mapped_column(Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"))
            path: Mapped[str | None] = mapped_column(String(500))
            name: Mapped[str | None] = mapped_column(String(300))
            mime: Mapped[str | None] = mapped_column(String(100))
            report: FileMapped[StoredFile | None] = FileColumn("documents", **(file or {}))

        self.Base, self.Document, self.engine = Base, Document, engine
        self.manager = StorageManager(
            {"store": root.as_uri()}, {"documents": StoragePolicy("documents", "store", **(policy or {}))}
        )
        self.manager.attach(Base)
        self.backend: Any = self.manager.backends["store"]
        Base.metadata.create_all(engine)

    def declare(self, table: str, column: str = "report") -> None:
        """Have the models know a file field of a table that was made by hand."""
        Table(
            table,
            self.Base.metadata,
            Column("id", Integer, primary_key=True),
            Column(column, StoredObjectRefType("documents")),
        )

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Rows, numbered from 1 on."""
        with self.engine.begin() as connection:
            for number, row in enumerate(rows, 1):
                connection.execute(insert(self.Document).values({"id": number, **row}))

    def conversion(self, old: str, **options: Any) -> Conversion:
        return Conversion(table="document", old=old, **{"new": "report", "policy": "documents", **options})

    def ingest(self, old: str, **options: Any) -> ConversionReport:
        given = {name: options.pop(name) for name in ("progress",) if name in options}
        return ingest(self.engine, self.manager, self.conversion(old, **options), **given)

    def put_back(self, old: str, **options: Any) -> ConversionReport:
        return put_back(self.engine, self.manager, self.conversion(old, **options))

    def files(self) -> dict[int, bytes | None]:
        """The content of each row's file, compared with its ref; None where there is none."""
        with Session(self.engine) as session:
            found: dict[int, bytes | None] = {}
            for document in session.scalars(select(self.Document)):
                if document.report is not None:
                    document.report.verify()
                found[document.id] = None if document.report is None else document.report.read()
            return found

    def file(self, number: int = 1) -> StoredFile:
        """A row's file."""
        with Session(self.engine) as session:
            found = session.get_one(self.Document, number).report
            assert found is not None
            return found

    def old(self, column: str) -> dict[int, Any]:
        """What an old column says."""
        table = self.Document.__table__.c
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(select(table.id, table[column]))}

    def raw(self, number: int = 1) -> str | None:
        """The text that the file column holds."""
        with self.engine.connect() as connection:
            cast = "CAST(report AS TEXT)" if self.engine.dialect.name == "postgresql" else "report"
            found: str | None = connection.scalar(text(f"SELECT {cast} FROM document WHERE id = {number}"))
            return found

    def set(self, number: int, **values: Any) -> None:
        """What somebody else writes."""
        with self.engine.begin() as connection:
            assignments = ", ".join(f"{name} = :{name}" for name in values)
            connection.execute(text(f"UPDATE document SET {assignments} WHERE id = {number}"), values)

    def objects(self) -> set[str]:
        """The locations of all objects but marks."""
        return {location for location in self.backend.iter_locations() if not is_mark(location)}

    def named(self) -> set[str]:
        """The locations that rows name."""
        with Session(self.engine) as session:
            return {file.location for file in session.scalars(select(self.Document.report)) if file is not None}

    def freed(self) -> set[str]:
        """The locations that the outbox says are free."""
        outbox = outbox_of(self.Base.metadata)
        assert outbox is not None
        with self.engine.connect() as connection:
            rows = list(connection.scalars(select(outbox.c.location)))
        assert len(rows) == len(set(rows))
        return set(rows)
