"""The databases that the tests run on.

``setup.cfg`` names them under ``[db]``, as SQLAlchemy's dialects name theirs. The controller of a test run asks once
which ones answer (:func:`probe`); each test worker then makes a :class:`Database` of its own on every one of them, and
between two tests it is emptied (:meth:`Database.clear`), not made again.
"""

from __future__ import annotations

import configparser
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, pool, text
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import OperationalError
from sqlalchemy_utils import create_database, drop_database

ROOT = Path(__file__).resolve().parent.parent

NAMES = ("sqlite", "postgresql", "mariadb")
"""What a test of every database runs on; each is an entry of ``[db]`` and the name of its SQLAlchemy dialect."""


def entry_url(entry: str) -> URL:
    """The URL that ``[db]`` of ``setup.cfg``, or of a ``test.cfg`` beside it, gives an entry."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([ROOT / "setup.cfg", ROOT / "test.cfg"])
    return make_url(config["db"][entry])


def probe(url: URL) -> str | None:
    """Why a database does not answer, in one line; None if it does."""
    if url.get_backend_name() == "sqlite":
        return None
    engine: Engine | None = None
    try:
        engine = create_engine(url, poolclass=pool.NullPool, connect_args={"connect_timeout": 3})
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception as error:
        cause = str(getattr(error, "orig", None) or error) or type(error).__name__
        return f"{url.host}:{url.port} does not answer: {' '.join(cause.split())[:200]}"
    return None


@dataclass(frozen=True)
class Database:
    """One test worker's own database."""

    name: str
    """``sqlite``, ``postgresql`` or ``mariadb``."""
    url: URL

    @classmethod
    def create(cls, name: str, folder: Path, worker: str) -> Database:
        """Make an empty database for a test worker; SQLite's file goes into ``folder``."""
        database = f"granite_test_{worker}_{os.getpid()}"
        url = entry_url(name)
        url = url.set(database=str(folder / f"{database}.db") if name == "sqlite" else database)
        # SQLAlchemy-Utils sets the encoding of a "mysql" database only, and takes "mariadb" for another.
        create_database(*((url.set(drivername="mysql+pymysql"), "utf8mb4") if name == "mariadb" else (url,)))
        made = cls(name, url)
        if name == "postgresql":  # nobody reads these rows after a crash, and commits need not wait for the disk
            made._execute(f'ALTER DATABASE "{database}" SET synchronous_commit = off')
        return made

    def drop(self) -> None:
        """Drop the database."""
        self.clear()
        if self.name != "sqlite":
            drop_database(self.url)

    def url_through(self, entry: str) -> URL:
        """This database through another driver of ``[db]``: ``asyncpg``, ``aiosqlite``."""
        return entry_url(entry).set(database=self.url.database)

    def engine(self, **options: Any) -> Engine:
        """A new engine on this database; :meth:`clear` may only follow its ``dispose``."""
        return make_engine(self.url, **options)

    def clear(self) -> None:
        """Drop all that is in the database; connections that a test left open are closed by the server."""
        if self.name == "sqlite":
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{self.url.database}{suffix}").unlink(missing_ok=True)
        else:
            self._execute(*_CLEAR[self.name])

    def _execute(self, *statements: Any) -> None:
        engine = create_engine(self.url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                if callable(statement):
                    statement(connection)
                else:
                    connection.execute(text(statement))


def make_engine(url: URL | str, **options: Any) -> Engine:
    """An engine whose transactions and savepoints are real on every database, with foreign keys enforced.

    The standard library's SQLite driver left to itself opens a transaction only before some statements, so that a
    savepoint that comes first is committed when it is released. Its ``autocommit=False`` (Python 3.12) keeps the
    standard; before it, the driver is told to begin nothing and SQLAlchemy's ``begin`` event does.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, **options)
    legacy = sys.version_info < (3, 12)
    connect_args = {"isolation_level": None} if legacy else {"autocommit": False}
    engine = create_engine(url, connect_args=connect_args | options.pop("connect_args", {}), **options)
    event.listen(engine, "connect", _enforce_foreign_keys)
    if legacy:
        event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _enforce_foreign_keys(connection: Any, record: Any) -> None:
    autocommit = getattr(connection, "autocommit", None)
    if autocommit is not None:
        connection.autocommit = True  # inside a transaction the pragma does nothing
    connection.execute("PRAGMA foreign_keys = ON").close()
    if autocommit is not None:
        connection.autocommit = autocommit


def _quoted(dialect: Dialect, name: str) -> str:
    return dialect.identifier_preparer.quote_identifier(name)


def _terminate_others(connection: Connection) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))


def _drop_schemas(connection: Connection) -> None:
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
    for name in connection.scalars(text(schemas)).all():
        connection.execute(text(f"DROP SCHEMA {_quoted(connection.dialect, name)} CASCADE"))


def _kill_others(connection: Connection) -> None:
    """End the connections that a test left open.

    MariaDB gives the thread of a connection that ends to one that begins, and a KILL that is late hits that one: so
    connections that the test closed, which the server may not have noticed yet, are waited for and not killed.
    """
    others = text("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
    for patience in (0.5, 10):
        until = monotonic() + patience
        while (numbers := connection.scalars(others).all()) and monotonic() < until:
            sleep(0.01)
        for number in numbers:
            with suppress(OperationalError):  # it ended by itself
                connection.execute(text(f"KILL SOFT {number}"))


def _drop_tables(connection: Connection) -> None:
    tables = "SELECT table_type, table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    for kind, name in connection.execute(text(tables)).all():
        what = "VIEW" if kind == "VIEW" else "TABLE"
        connection.execute(text(f"DROP {what} {_quoted(connection.dialect, name)}"))


_CLEAR: dict[str, tuple[Any, ...]] = {
    "postgresql": (_terminate_others, _drop_schemas, "CREATE SCHEMA public"),
    "mariadb": (_kill_others, "SET lock_wait_timeout = 30, foreign_key_checks = 0", _drop_tables),
}
