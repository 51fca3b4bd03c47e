"""Inserting rows with a small file each, in one flush, where S3 is 20 ms away."""

from __future__ import annotations

import random
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.deleting import throwaway_bucket
from benchmarks.latency import far_away
from benchmarks.results import Result
from benchmarks.runner import measure
from benchmarks.s3_servers import Server, s3_server
from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, Upload
from granite_storage.backends.s3 import S3StorageBackend

__all__ = ["run"]

_SIZE = 1024  # bytes of a file
_LATENCY = 0.02  # seconds

Insert = Callable[[Any, list[bytes]], None]
"""Inserts rows with these contents into an engine's database."""


def run(settings: Settings) -> Iterator[Result]:
    """One table."""
    count = 50 if settings.quick else 200
    with (
        s3_server() as server,
        throwaway_bucket(server) as bucket,
        far_away(server.endpoint_url, _LATENCY) as endpoint,
    ):
        far = Server(server.name, endpoint, server.access_key, server.secret_key)
        args = (settings.directory, far, bucket, count)
        contenders = (
            Contender("granite-storage", granite, args, note="max_workers=8, as by default"),
            Contender("one after the other", granite, (*args, 1), goal=1 / 6, note="granite-storage, max_workers=1"),
            Contender("advanced-alchemy", advanced_alchemy, args, peer=True, note="obstore; stores after the commit"),
            Contender("sqlalchemy-file", sqlalchemy_file, args, peer=True, note="libcloud; stores when it is assigned"),
        )
        title = f"insert {count} rows with a 1 KB file each in one flush, S3 ({server.name}) 20 ms away"
        yield measure(Case(title, contenders, count, "ms/row", 1e3), settings.rounds)


@contextmanager
def _inserting(directory: str, count: int, model: Any, insert: Insert) -> Iterator[Round]:
    numbers = random.Random(20260131)
    contents = [b"%PDF-1.7\n" + numbers.randbytes(_SIZE - 9) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="granite-bench-", dir=directory) as folder:
        engine = create_engine(f"sqlite:///{folder}/bench.db")

        def before() -> None:
            model.metadata.drop_all(engine)
            model.metadata.create_all(engine)

        def check() -> None:
            with Session(engine) as session:
                assert session.scalar(select(func.count()).select_from(model)) == count

        yield Round(lambda: insert(engine, contents), before, check)
        engine.dispose()


@contextmanager
def granite(directory: str, server: Server, bucket: str, count: int, workers: int = 8) -> Iterator[Round]:
    """A file field."""

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: FileMapped[StoredFile | None] = FileColumn("documents")

    backend = S3StorageBackend(
        bucket=bucket,
        region="us-east-1",
        endpoint_url=server.endpoint_url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        addressing_style="path",
    )
    policy = StoragePolicy("documents", "s3", max_size=2**20, key_prefix="docs")
    StorageManager({"s3": backend}, {"documents": policy}, max_workers=workers).attach(Base)

    def insert(engine: Any, contents: list[bytes]) -> None:
        with Session(engine) as session:
            for number, content in enumerate(contents):
                session.add(Document(file=Upload(content, f"report-{number}.pdf", "application/pdf")))
            session.commit()

    with _inserting(directory, count, Document, insert) as one:
        yield one


@contextmanager
def advanced_alchemy(directory: str, server: Server, bucket: str, count: int) -> Iterator[Round]:
    """``StoredObject`` on its obstore backend."""
    from advanced_alchemy._listeners import SyncFileObjectListener
    from advanced_alchemy.types.file_object import FileObject, StoredObject, storages
    from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        endpoint=server.endpoint_url,
        region="us-east-1",
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        client_options={"allow_http": True},
    )
    storages.register_backend(ObstoreBackend("s3", store))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[Any] = mapped_column(StoredObject("s3"), nullable=True)

    maker = sessionmaker()  # listened to as its own configuration object does
    event.listen(maker, "before_flush", SyncFileObjectListener.before_flush)
    event.listen(maker, "after_commit", SyncFileObjectListener.after_commit)
    event.listen(maker, "after_rollback", SyncFileObjectListener.after_rollback)

    def insert(engine: Any, contents: list[bytes]) -> None:
        with maker(bind=engine) as session:
            for number, content in enumerate(contents):
                name = f"report-{number}.pdf"
                file = FileObject("s3", name, f"{uuid.uuid4()}.pdf", "application/pdf", content=content)
                session.add(Document(file=file))
            session.commit()

    with _inserting(directory, count, Document, insert) as one:
        yield one


@contextmanager
def sqlalchemy_file(directory: str, server: Server, bucket: str, count: int) -> Iterator[Round]:
    """``FileField`` on libcloud's S3 driver."""
    from urllib.parse import urlsplit

    from libcloud.storage.drivers.s3 import S3StorageDriver
    from sqlalchemy_file import File, FileField
    from sqlalchemy_file.storage import StorageManager as Storages

    address = urlsplit(server.endpoint_url)

    class Driver(S3StorageDriver):  # its uploads in parts raise ValueError in libcloud 3.9.1; small ones need none
        supports_s3_multipart_upload = False

    driver = Driver(server.access_key, server.secret_key, secure=False, host=address.hostname, port=address.port)
    Storages.add_storage("s3", driver.get_container(bucket))

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[Any] = mapped_column(FileField(upload_storage="s3"), nullable=True)

    def insert(engine: Any, contents: list[bytes]) -> None:
        with Session(engine) as session:
            for number, content in enumerate(contents):
                session.add(Document(file=File(content, f"report-{number}.pdf", "application/pdf")))
            session.commit()

    with _inserting(directory, count, Document, insert) as one:
        yield one
