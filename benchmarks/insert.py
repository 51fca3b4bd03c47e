"""Inserting many rows with a small file each, in one transaction, onto a disk.

The loops by hand write each file as durably as granite-storage does (under a temporary name, fsync, link, fsync of the
folder), and the same row, with a JSON column and no more.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, Upload

__all__ = ["run"]

_SIZE = 1024  # bytes of a file
_WORKERS = 8  # threads: the manager's own default


def run(settings: Settings) -> Iterator[Result]:
    """On SQLite and a local disk."""
    files = 200 if settings.quick else 2_000
    where = (settings.directory, files)
    contenders = (
        Contender("granite-storage", granite, where, note="pool of 8 threads"),
        Contender("loop by hand", by_hand, (*where, None), goal=1.0, note="sequential, as durable"),
        Contender("pool by hand", by_hand, (*where, _WORKERS), goal=1.3, note="8 threads, as durable"),
        Contender("advanced-alchemy", advanced_alchemy, where, peer=True, note="no fsync; stores after the commit"),
        Contender("sqlalchemy-file", sqlalchemy_file, where, peer=True, note="no fsync, not atomic; two files each"),
    )
    case = Case(f"insert {files:,} rows with a 1 KB file each, one transaction", contenders, files, "us/row", 1e6)
    yield measure(case, settings.rounds)


def _contents(count: int) -> list[bytes]:
    numbers = random.Random(20260131)
    return [b"%PDF-1.7\n" + numbers.randbytes(_SIZE - 9) for _ in range(count)]


@contextmanager
def _inserting(
    directory: str, count: int, set_up: Callable[[Path], tuple[Any, Callable[[Any, list[bytes]], None]]]
) -> Iterator[Round]:
    """A round that inserts; each starts with an empty table and an empty store.

    :param set_up: given the store's folder, gives the mapped class and what inserts into an engine's database.
    """
    contents = _contents(count)
    with tempfile.TemporaryDirectory(prefix="granite-bench-", dir=directory) as folder:
        engine = create_engine(f"sqlite:///{folder}/bench.db")
        root = Path(folder, "store")
        root.mkdir()
        model, insert = set_up(root)

        def before() -> None:
            shutil.rmtree(root)
            root.mkdir()
            (root / ".incoming").mkdir()
            (root / "container").mkdir()
            model.metadata.drop_all(engine)
            model.metadata.create_all(engine)
            os.sync()  # what an earlier round left to write is not for this one to wait for

        def check() -> None:
            with Session(engine) as session:
                assert session.scalar(select(func.count()).select_from(model)) == count
            sizes = [file.stat().st_size for file in root.rglob("*") if file.is_file()]
            assert sizes.count(_SIZE) == count, f"{sizes.count(_SIZE)} of {count} files are there"

        yield Round(lambda: insert(engine, contents), before, check)
        engine.dispose()


@contextmanager
def granite(directory: str, count: int) -> Iterator[Round]:
    """A file field."""

    def set_up(root: Path) -> tuple[Any, Callable[[Any, list[bytes]], None]]:
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: FileMapped[StoredFile | None] = FileColumn("documents")

        policy = StoragePolicy("documents", "local", max_size=2**20, key_prefix="docs")
        StorageManager({"local": f"file://{root}"}, {"documents": policy}, max_workers=_WORKERS).attach(Base)

        def insert(engine: Any, contents: list[bytes]) -> None:
            with Session(engine) as session:
                for number, content in enumerate(contents):
                    session.add(Document(file=Upload(content, f"report-{number}.pdf", "application/pdf")))
                session.commit()

        return Document, insert

    with _inserting(directory, count, set_up) as one:
        yield one


@contextmanager
def by_hand(directory: str, count: int, workers: int | None) -> Iterator[Round]:
    """What one writes without a library: one file after the other, or in a pool."""

    def set_up(root: Path) -> tuple[Any, Callable[[Any, list[bytes]], None]]:
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: Mapped[Any] = mapped_column(JSON)

        pool = None if workers is None else ThreadPoolExecutor(workers)

        def put(number: int, content: bytes) -> dict[str, Any]:
            now = datetime.now(UTC)
            location = f"docs/{now:%Y/%m/%d}/{uuid.uuid4()}.pdf"
            _write_durably(root, location, content)
            return {
                "storage_key": "documents",
                "backend": "local",
                "location": location,
                "size": len(content),
                "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "content_type": "application/pdf",
                "original_filename": f"report-{number}.pdf",
                "created_at": now.isoformat(),
                "extra": None,
            }

        def insert(engine: Any, contents: list[bytes]) -> None:
            (root / f"docs/{datetime.now(UTC):%Y/%m/%d}").mkdir(parents=True, exist_ok=True)
            with Session(engine) as session:
                each = map if pool is None else pool.map
                session.add_all(Document(file=ref) for ref in each(put, range(len(contents)), contents))
                session.commit()

        return Document, insert

    with _inserting(directory, count, set_up) as one:
        yield one


def _write_durably(root: Path, location: str, content: bytes) -> None:
    path, temporary = f"{root}/{location}", f"{root}/.incoming/{uuid.uuid4().hex}"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    os.link(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    os.unlink(temporary)


@contextmanager
def advanced_alchemy(directory: str, count: int) -> Iterator[Round]:
    """``StoredObject`` on its obstore backend."""
    from advanced_alchemy._listeners import SyncFileObjectListener
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
    from obstore.store import LocalStore

    def set_up(root: Path) -> tuple[Any, Callable[[Any, list[bytes]], None]]:
        storages.register_backend(ObstoreBackend("local", LocalStore(root, mkdir=True)))

        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: Mapped[Any] = mapped_column(StoredObject("local"), nullable=True)

        maker = sessionmaker()  # listened to as its own configuration object does
        event.listen(maker, "before_flush", SyncFileObjectListener.before_flush)
        event.listen(maker, "after_commit", SyncFileObjectListener.after_commit)
        event.listen(maker, "after_rollback", SyncFileObjectListener.after_rollback)

        def insert(engine: Any, contents: list[bytes]) -> None:
            with maker(bind=engine) as session:
                for number, content in enumerate(contents):
                    name = f"report-{number}.pdf"
                    file = FileObject("local", name, f"{uuid.uuid4()}.pdf", "application/pdf", content=content)
                    session.add(Document(file=file))
                session.commit()

        return Document, insert

    with _inserting(directory, count, set_up) as one:
        yield one


@contextmanager
def sqlalchemy_file(directory: str, count: int) -> Iterator[Round]:
    """``FileField`` on libcloud's local driver."""
    from libcloud.storage.drivers.local import LocalStorageDriver
    from sqlalchemy_file import File, FileField
    from sqlalchemy_file.storage import StorageManager as Storages

    def set_up(root: Path) -> tuple[Any, Callable[[Any, list[bytes]], None]]:
        tempfile.tempdir = str(root.parent)  # where libcloud leaves a lock file for each object
        (root / "container").mkdir()
        Storages.add_storage("local", LocalStorageDriver(str(root)).get_container("container"))

        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            file: Mapped[Any] = mapped_column(FileField(upload_storage="local"), nullable=True)

        def insert(engine: Any, contents: list[bytes]) -> None:
            with Session(engine) as session:
                for number, content in enumerate(contents):
                    session.add(Document(file=File(content, f"report-{number}.pdf", "application/pdf")))
                session.commit()

        return Document, insert

    with _inserting(directory, count, set_up) as one:
        yield one
