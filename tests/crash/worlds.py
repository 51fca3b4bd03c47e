"""The world that processes are killed in: one model, its manager, and what must be true of them afterwards.

A case finds a *bystander*, which no operation touches, and two documents, ``a`` and ``b``. Their files are older than
what a sweep lists, so that an object which a transaction frees is found by its outbox row alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import Engine, String, delete, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, StoredObjectRef
from granite_storage.locations import INCOMING, new_location
from granite_storage.maintenance.sweep_report import SweepReport
from granite_storage.orm.outbox import outbox_of
from granite_storage.ownership import is_mark
from tests.databases import make_engine

__all__ = ["OLD", "SIZE", "CrashWorld", "State", "content"]

State = Mapping[str, bytes | None]
"""The committed content of each document, by title; None for a document without a file."""

SIZE = 32 * 1024
"""Bytes of a file, unless a case wants more."""

_OLD_DAYS = 30
_PATIENCE = 60.0  # seconds until a database must have noticed that a client is gone


def content(title: str, version: str, size: int = SIZE) -> bytes:
    """The bytes of a version of a document: no two are alike, and no part of one is another."""
    return shake_256(f"{title} {version} {size}".encode()).digest(size)


OLD: State = {title: content(title, "old") for title in ("a", "b", "bystander")}
"""What is committed before an operation begins."""


class CrashWorld:
    """Model, manager and engine, made anew in every process and for every case.

    :param database: the URL of a database.
    :param storage: the URL of a backend.
    """

    def __init__(self, database: str, storage: str) -> None:
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(String(50), unique=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")

        self.Base, self.Document, self.storage = Base, Document, storage
        self.engine: Engine = make_engine(database)
        self.manager = self._manager()
        self.manager.attach(Base)
        self.backend: Any = self.manager.backends["store"]

    def _manager(self) -> StorageManager:
        return StorageManager({"store": self.storage}, {"documents": StoragePolicy("documents", "store")})

    def close(self) -> None:
        self.engine.dispose()
        self.Base.registry.dispose()

    def session(self, **options: Any) -> Session:
        return Session(self.engine, **options)

    def fill(self) -> None:
        """Empty the tables, and commit what :data:`OLD` says."""
        long_ago = datetime.now(UTC) - timedelta(days=_OLD_DAYS)
        rows = []
        for title, stored in OLD.items():
            assert stored is not None
            location = new_location("documents", ".bin", milliseconds=int(long_ago.timestamp() * 1000))
            self.backend.put_bytes(key=location, content=stored)
            checksum = f"sha256:{sha256(stored).hexdigest()}"
            rows.append({"title": title, "report": StoredObjectRef("documents", "store", location, SIZE, checksum)})
        with self.engine.begin() as connection:
            for table in reversed(self.Base.metadata.sorted_tables):
                connection.execute(delete(table))
            connection.execute(insert(self.Document), rows)

    # What is there

    def state(self) -> dict[str, bytes | None]:
        """What rows name, read and compared with what the refs say of it; an AssertionError if one dangles."""
        found: dict[str, bytes | None] = {}
        with self.session() as session:
            for document in session.scalars(select(self.Document)):
                assert document.title not in found
                found[document.title] = None if document.report is None else self._read(document.title, document.report)
        return found

    def _read(self, title: str, file: StoredFile) -> bytes:
        try:
            file.verify()
            return file.read()
        except Exception as error:
            raise AssertionError(f"the row of {title!r} names a missing or partial object: {error}") from error

    def named(self) -> set[str]:
        """The locations that rows name."""
        with self.session() as session:
            return {file.location for file in session.scalars(select(self.Document.report)) if file is not None}

    def objects(self) -> set[str]:
        """The locations of all objects but marks."""
        return {location for location in self.backend.iter_locations() if not is_mark(location)}

    def stored(self, location: str) -> bytes:
        """The content of an object."""
        content: bytes = self.backend.get(StoredObjectRef("documents", "store", location, 0, ""))
        return content

    def outbox(self) -> list[str]:
        """What the outbox says is free."""
        outbox = outbox_of(self.Base.metadata)
        assert outbox is not None
        with self.engine.connect() as connection:
            return list(connection.scalars(select(outbox.c.location)))

    def unfinished(self) -> list[str]:
        """Temporary files of a folder; unfinished multipart uploads of a bucket."""
        if hasattr(self.backend, "root_dir"):
            return [path.name for path in (Path(self.backend.root_dir) / INCOMING).iterdir()]
        with closing(self.s3_client()) as client:
            found = client.list_multipart_uploads(Bucket=self.backend.bucket).get("Uploads", ())
        return [one["Key"] for one in found]

    def s3_client(self) -> Any:
        """A client of the S3 server that is not the backend's."""
        import boto3

        (endpoint,) = parse_qs(urlsplit(self.storage).query)["endpoint_url"]
        return boto3.client("s3", endpoint_url=endpoint)

    # What must be true

    def check_survivors(self, *expected: State) -> State:
        """Before any sweep: a committed state holds, whole, and whatever is stored is whole; gives the state."""
        state = self.state()
        assert state in expected, f"the rows are neither of the states expected: {_told(state)}"
        for location in self.objects():
            assert _version(self.stored(location)) is not None, f"a partial object is visible at {location}"
        return state

    def check_swept(self, expected: State) -> None:
        """After one sweep: exactly what rows reference is there, and nothing is left to do."""
        state = self.state()
        assert state == expected, f"the sweep changed what rows hold: {_told(state)}"
        named, objects = self.named(), self.objects()
        assert named - objects == set(), "a row names a missing object"
        assert objects - named == set(), "an object is nobody's, and the sweep left it"
        assert self.outbox() == [], "the sweep left rows in the outbox"
        assert self.unfinished() == [], "the sweep left unfinished uploads"

    def sweep(self) -> SweepReport:
        """Sweep as an operator would, but with no grace: no upload is under way.

        No case prepares a transaction. Those of other tests are on the same MariaDB server, which does not tell of
        which database they are; a sweep would wait for them.
        """
        with patch("granite_storage.maintenance.horizon.oldest_prepared", lambda *args: None):
            return self.manager.sweep(self.engine, grace=timedelta(0))

    def wait_until_alone(self) -> None:
        """Wait until the database has noticed that its other clients are gone, and has rolled their work back."""
        self.engine.dispose()
        clients = _CLIENTS.get(self.engine.url.get_backend_name())
        if clients is None:
            return
        deadline = time.monotonic() + _PATIENCE
        with self.engine.connect() as connection:
            while connection.scalar(text(clients)) != 1:
                connection.rollback()
                assert time.monotonic() < deadline, "the database keeps connections of processes that are gone"
                time.sleep(0.002)


_CLIENTS = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    ),
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()",
}


def _version(stored: bytes) -> str | None:
    """Which version of a document some bytes are; None if they are no whole one."""
    for title in (*OLD, "c", "d"):
        for version in ("old", "new", "lost"):
            if stored == content(title, version, len(stored)):
                return f"{title}, {version}"
    return None


def _told(state: State) -> dict[str, str | None]:
    """A state for an error message: the bytes themselves would fill pages."""
    return {title: "no file" if stored is None else _version(stored) for title, stored in state.items()}
