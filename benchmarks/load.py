"""Loading many ORM rows with a file column that nobody touches.

All contenders load ``(id, file)``. The ``String`` column holds the very text of granite-storage's column, the JSON
column the same value; the peers' columns hold refs as they write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Text, cast, create_engine, func, insert, inspect, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.databases import postgresql, sqlite
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import FileColumn, FileMapped, StoredFile, StoredObjectRef
from granite_storage.locations import new_location

__all__ = ["run"]

_BATCH = 10_000


def run(settings: Settings) -> Iterator[Result]:
    """On SQLite and on PostgreSQL."""
    with sqlite(settings) as url:
        yield _on("SQLite", url, settings)
    try:
        with postgresql() as url:
            yield _on("PostgreSQL", url, settings)
    except ConnectionError as error:
        yield Result("load on PostgreSQL", "", 0, (), skipped=str(error))


def _on(database: str, url: str, settings: Settings) -> Result:
    rows = 10_000 if settings.quick else 100_000
    contenders = (
        Contender("granite-storage", loading, (url, "granite", rows)),
        Contender("String", loading, (url, "string", rows), goal=1.15, note="the same text"),
        Contender("JSON", loading, (url, "json", rows), goal=0.75, note="JSONB on PostgreSQL; a dict a row"),
        Contender("advanced-alchemy", loading, (url, "advanced_alchemy", rows), peer=True),
        Contender("sqlalchemy-file", loading, (url, "sqlalchemy_file", rows), peer=True),
    )
    case = Case(f"load {rows:,} rows, untouched, on {database}", contenders, rows, "us/row", 1e6)
    return measure(case, settings.rounds)


@contextmanager
def loading(url: str, kind: str, rows: int) -> Iterator[Round]:
    """The contender of that kind; its table is made and filled if it is not there."""
    engine = create_engine(url)
    model, values = _MODELS[kind]()
    if not inspect(engine).has_table(model.__tablename__):
        model.metadata.create_all(engine)
        with engine.begin() as connection:
            if values is None:  # a copy of granite-storage's own
                source = _MODELS["granite"]()[0].__table__.c
                content = cast(source.file, Text()) if kind == "string" else source.file
                table = model.__table__
                connection.execute(insert(table).from_select(["id", "file"], select(source.id, content)))
            else:
                for start in range(0, rows, _BATCH):
                    batch = range(start, min(start + _BATCH, rows))
                    connection.execute(
                        insert(model.__table__), [{"id": number, "file": values(number)} for number in batch]
                    )
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    loaded: list[Any] = []

    def load() -> None:
        with Session(engine) as session:
            found = session.scalars(select(model)).all()
            loaded.append((len(found), found[-1].file))

    def check() -> None:
        count, file = loaded.pop()
        assert count == rows
        assert file is not None

    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(model)) == rows
    yield Round(load, after=check)
    engine.dispose()


def _ref(number: int) -> StoredObjectRef:
    return StoredObjectRef(
        "documents",
        "local",
        new_location("docs", ".pdf"),
        1_000_000 + number,
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "application/pdf",
        f"Annual report {number}.pdf",
        "2026-01-31T12:34:56.789012+00:00",
    )


# Each gives the mapped class, and what its table is filled with: None for a copy of granite-storage's.


def _granite() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "granite"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: FileMapped[StoredFile | None] = FileColumn("documents")

    return Document, _ref


def _string() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "string"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[str | None]

    return Document, None


def _json() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "json"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[Any] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))

    return Document, None


def _advanced_alchemy() -> tuple[Any, Any]:
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend

    storages.register_backend(ObstoreBackend("local", "memory://"))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "advanced_alchemy"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[Any] = mapped_column(StoredObject("local"), nullable=True)

    def value(number: int) -> Any:
        return FileObject(
            "local",
            f"Annual report {number}.pdf",
            to_filename=new_location("docs", ".pdf"),
            content_type="application/pdf",
            size=1_000_000 + number,
            last_modified=1769862896.789,
            checksum="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            etag="1f1a2b-6497d0a2e1f80-f4240",
        )

    return Document, value


def _sqlalchemy_file() -> tuple[Any, Any]:
    from sqlalchemy_file import File, FileField

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "sqlalchemy_file"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[Any] = mapped_column(FileField(), nullable=True)

    def value(number: int) -> Any:
        filename, file_id = f"Annual report {number}.pdf", new_location("docs").rpartition("/")[2]
        about = {"filename": filename, "content_type": "application/pdf"}
        members = {
            **about,
            "size": 1_000_000 + number,
            "files": [f"local/{file_id}"],
            "extra": {"content_type": "application/pdf", "meta_data": about},
            "file_id": file_id,
            "upload_storage": "local",
            "uploaded_at": "2026-01-31T12:34:56.789012+00:00",
            "path": f"local/{file_id}",
            "url": None,
            "saved": True,
        }
        return File(json.loads(json.dumps(members)))

    return Document, value


_MODELS = {
    "granite": _granite,
    "string": _string,
    "json": _json,
    "advanced_alchemy": _advanced_alchemy,
    "sqlalchemy_file": _sqlalchemy_file,
}
