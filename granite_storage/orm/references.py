"""Which rows name an object? Asked of the database before every delete, and before an adoption."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Engine, FromClause, inspect, select
from sqlalchemy.exc import DBAPIError, NoSuchTableError, UnboundExecutionError

from granite_storage.exceptions import ConfigurationError, InvalidRefError, StorageError
from granite_storage.files import StoredFile
from granite_storage.orm.fields import mapper_of
from granite_storage.orm.location_index import indexed_location
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.orm import Session

    from granite_storage.manager import StorageManager

__all__ = ["Identity", "Source", "named", "ref_columns", "sources_of"]

Identity = tuple[str, str]
"""The manager's name for a backend, and a location: what makes an object that object."""

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Source:
    """One column of refs and the database to ask."""

    column: Column[Any]
    engine: Engine | None
    schema_translate_map: Any = field(default=None, compare=False)


def ref_columns(metadata: MetaData) -> Iterator[Column[Any]]:
    """Every column of refs, with a policy or without, of a MetaData."""
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, StoredObjectRefType):
                yield column


def sources_of(session: Session, connection: Connection, manager: StorageManager) -> tuple[Source, ...]:
    """Every column that may name an object of ``manager``, with the database that a flushing session has it in."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    sources = []
    for metadata, engine in manager.attached.items():
        for column in ref_columns(metadata):
            if engine is not None and engine.pool is not connection.engine.pool:
                sources.append(Source(column, engine))
                continue
            try:
                bind = engine or session.get_bind(mapper=mapper_of(column.table), clause=column.table)
            except UnboundExecutionError:
                sources.append(Source(column, None))
            else:
                sources.append(Source(column, bind.engine, schemas))
    return tuple(sources)


def named(
    manager: StorageManager,
    objects: Iterable[Identity],
    sources: Iterable[Source],
    *,
    written: Collection[FromClause] = (),
    idle: Collection[Connection] = (),
) -> set[Identity]:
    """Those of ``objects`` that some row names, read in fresh transactions.

    :param written: the tables that the transaction wrote, which must be there; any other that is missing names nothing.
    :param idle: connections of the transaction that are open and in no transaction; they are used where they fit.
    :raises SQLAlchemyError: if a database does not answer; then nobody knows, and nothing may be deleted.
    :raises ConfigurationError: if nobody can tell which database to ask.
    """
    wanted = set(objects)
    found: set[Identity] = set()
    in_order = sorted(sources, key=lambda source: (id(source.engine), repr(source.schema_translate_map)))
    for _, group in groupby(in_order, key=lambda source: (id(source.engine), repr(source.schema_translate_map))):
        columns = list(group)
        with _reading(columns[0], idle) as connection:
            for source in columns:
                found |= _named_in(connection, manager, wanted, source.column, written)
    return found


def named_within(
    connection: Connection, manager: StorageManager, objects: Iterable[Identity], sources: Iterable[Source]
) -> set[Identity]:
    """As :func:`named`, but as the transaction of ``connection`` sees its own database."""
    inside: list[Source] = []
    outside: list[Source] = []
    for source in sources:
        same = source.engine is not None and source.engine.pool is connection.engine.pool
        (inside if same else outside).append(source)
    wanted = set(objects)
    found = named(manager, wanted, outside)
    for source in inside:
        savepoint = connection.begin_nested()  # a table that is missing must not end the user's transaction
        try:
            found |= _named_in(connection, manager, wanted, source.column)
        finally:
            if savepoint.is_active:
                savepoint.rollback()
    return found


@contextmanager
def _reading(source: Source, idle: Collection[Connection]) -> Iterator[Connection]:
    """A connection to a source's database that is in no transaction yet."""
    if source.engine is None:
        raise ConfigurationError(
            f"nobody can tell in which database {source.column.table} is, and whether it names an "
            "object that is to be deleted or adopted; say so: manager.attach(Base, engine=...)"
        )
    for connection in idle:
        if connection.engine.pool is source.engine.pool:
            try:
                yield connection
            finally:
                connection.rollback()
            return
    with source.engine.connect() as connection:
        if source.schema_translate_map:
            connection = connection.execution_options(schema_translate_map=source.schema_translate_map)
        yield connection


def _named_in(
    connection: Connection,
    manager: StorageManager,
    wanted: set[Identity],
    column: Column[Any],
    written: Collection[FromClause] = (),
) -> set[Identity]:
    found: set[Identity] = set()
    locations = sorted({location for _, location in wanted})
    try:
        place = indexed_location(connection, column)
        for start in range(0, len(locations), _BATCH):
            rows = connection.execute(select(column).where(place.in_(locations[start : start + _BATCH])))
            for (value,) in rows:
                found |= _identities(manager, value, wanted)
    except (DBAPIError, NoSuchTableError) as error:
        (connection.get_nested_transaction() or connection).rollback()
        if _is_there(connection, column):
            raise
        if column.table in written:
            raise ConfigurationError(
                f"the transaction wrote {column.table}, but after it no such table is in {connection.engine.url!r}; "
                "settings that a transaction makes for itself, such as a search_path, belong on the engine"
            ) from error
        return set()  # a table that does not exist names nothing
    return found


def _is_there(connection: Connection, column: Column[Any]) -> bool:
    schemas = connection.get_execution_options().get("schema_translate_map") or {}
    schema = column.table.schema
    return inspect(connection).has_table(column.table.name, schemas.get(schema, schema))


def _identities(manager: StorageManager, value: Any, wanted: set[Identity]) -> set[Identity]:
    try:
        ref = value.ref if isinstance(value, StoredFile) else value
        location = ref.location
    except InvalidRefError:
        return wanted  # a location stands there, but nobody can tell whose: it may be any of them
    try:
        return {manager.identity(ref)} & wanted
    except StorageError:
        return {identity for identity in wanted if identity[1] == location}
