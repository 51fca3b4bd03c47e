"""The databases of the benchmarks: an SQLite file, and a PostgreSQL database that is made and dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.case import Settings

__all__ = ["postgresql", "sqlite"]


@contextmanager
def sqlite(settings: Settings) -> Iterator[str]:
    """The URL of an SQLite file."""
    with TemporaryDirectory(prefix="granite-bench-", dir=settings.directory) as folder:
        yield f"sqlite:///{folder}/bench.db"


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a fresh database on the server that setup.cfg, or test.cfg, names.

    :raises ConnectionError: if the server cannot be reached.
    """
    config = ConfigParser()
    root = Path(__file__).parent.parent
    config.read([root / "setup.cfg", root / "test.cfg"])
    server = make_url(config["db"]["postgresql"])
    name = f"granite_bench_{os.getpid()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except (SQLAlchemyError, ImportError) as error:
        raise ConnectionError(f"PostgreSQL cannot be used at {server!r}: {type(error).__name__}") from error
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()
