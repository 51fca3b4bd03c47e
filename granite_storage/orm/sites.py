"""Sites: where the tables of a MetaData are. One MetaData may be in several databases, or in a schema per tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Pool

__all__ = ["Desk", "Site", "own_connection", "translated"]

_ROW_LOCKS = ("postgresql", "mysql", "mariadb")


@dataclass(frozen=True, slots=True)
class Site:
    """The tables of a MetaData in one database, under one schema translate map."""

    metadata: MetaData
    engine: Engine = field(compare=False)
    schemas: tuple[tuple[str | None, str | None], ...] = ()
    pool: Pool | None = None

    @classmethod
    def of(cls, bind: Connection | Engine, metadata: MetaData) -> Site:
        """The site that a connection or an engine leads to."""
        schemas = bind.get_execution_options().get("schema_translate_map") or {}
        engine = bind.engine
        return cls(metadata, engine, tuple(sorted(schemas.items(), key=repr)), engine.pool)

    @contextmanager
    def desk(self, idle: Collection[Connection] = ()) -> Iterator[Desk]:
        """A connection of our own to the site's database, in no transaction yet.

        :param idle: open connections that are in no transaction; one of this database is used, and left so.
        """
        for connection in idle:
            if connection.engine.pool is self.pool:
                try:
                    with translated(connection, dict(self.schemas)):
                        yield Desk(connection, holds_locks=False)
                finally:
                    connection.rollback()
                return
        with own_connection(self.engine, dict(self.schemas)) as connection:
            yield Desk(connection, holds_locks=self.engine.dialect.name in _ROW_LOCKS)


@contextmanager
def own_connection(engine: Engine, schemas: Any = None) -> Iterator[Connection]:
    """A connection that is nobody else's, in READ COMMITTED where a stricter level would wait for others' row locks.

    What is not committed is undone by the driver itself: a COMMIT that SQLite refuses, since somebody reads, leaves the
    driver in its transaction, and SQLAlchemy thinks that it is over.

    :param schemas: its schema translate map.
    """
    options: dict[str, Any] = {"schema_translate_map": schemas} if schemas else {}
    if engine.dialect.name in _ROW_LOCKS:
        options["isolation_level"] = "READ COMMITTED"
    with engine.connect() as connection:
        try:
            yield connection.execution_options(**options)
        except DBAPIError as error:
            if not error.connection_invalidated:
                with suppress(Exception):  # the error itself is told
                    connection.connection.rollback()
            raise


@contextmanager
def translated(connection: Connection, schemas: Any) -> Iterator[None]:
    """Give a connection another schema translate map for a while."""
    before = connection.get_execution_options().get("schema_translate_map")
    if (before or {}) == (schemas or {}):
        yield
        return
    connection.execution_options(schema_translate_map=schemas)
    try:
        yield
    finally:
        connection.execution_options(schema_translate_map=before)


@dataclass(frozen=True, slots=True)
class Desk:
    """A connection to work at.

    :param holds_locks: whether each statement sees what was committed before it, and locked rows stay locked until the
        transaction ends. If not (SQLite, a connection of the caller's), each step is a transaction of its own.
    """

    connection: Connection
    holds_locks: bool

    def end_step(self) -> None:
        """Where no row locks are held, end the transaction: the next statement is to see what is committed by then."""
        if not self.holds_locks:
            self.connection.rollback()
