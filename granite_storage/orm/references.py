"""Which rows name an object? Asked of the database before every delete, and before an adoption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Engine, inspect, select
from sqlalchemy.exc import DBAPIError, NoSuchTableError, UnboundExecutionError

from granite_storage.exceptions import ConfigurationError, InvalidRefError, StorageError
from granite_storage.files import StoredFile
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
            try:
                bind = engine or session.get_bind(clause=column.table)
            except UnboundExecutionError:
                sources.append(Source(column, None))
            else:
                sources.append(Source(column, bind.engine, None if engine else schemas))
    return tuple(sources)


def named(manager: StorageManager, objects: Iterable[Identity], sources: Sequence[Source]) -> set[Identity]:
    """Those of ``objects`` that some row names, read in fresh transactions.

    :raises SQLAlchemyError: if a database does not answer; then nobody knows, and nothing may be deleted.
    """
    wanted = set(objects)
    found: set[Identity] = set()
    by_engine = sorted(sources, key=lambda source: id(source.engine))
    for engine, group in groupby(by_engine, key=lambda source: source.engine):
        columns = list(group)
        if engine is None:
            raise ConfigurationError(
                f"nobody can tell in which database {columns[0].column.table.fullname} is, and whether it names an "
                "object that is to be deleted or adopted; say so: manager.attach(Base, engine=...)"
            )
        with engine.connect() as connection:
            if columns[0].schema_translate_map:
                connection = connection.execution_options(schema_translate_map=columns[0].schema_translate_map)
            for source in columns:
                found |= _named_in(connection, manager, wanted, source.column)
    return found


def named_within(
    connection: Connection, manager: StorageManager, objects: Iterable[Identity], sources: Sequence[Source]
) -> set[Identity]:
    """As :func:`named`, but as the transaction of ``connection`` sees its own database."""
    inside = [source for source in sources if source.engine is connection.engine]
    outside = [source for source in sources if source.engine is not connection.engine]
    wanted = set(objects)
    found = named(manager, wanted, outside)
    for source in inside:
        found |= _named_in(connection, manager, wanted, source.column)
    return found


def _named_in(
    connection: Connection, manager: StorageManager, wanted: set[Identity], column: Column[Any]
) -> set[Identity]:
    found: set[Identity] = set()
    locations = sorted({location for _, location in wanted})
    try:
        place = indexed_location(connection, column)
        for start in range(0, len(locations), _BATCH):
            rows = connection.execute(select(column).where(place.in_(locations[start : start + _BATCH])))
            for (value,) in rows:
                found |= _identities(manager, value, wanted)
    except (DBAPIError, NoSuchTableError):
        connection.rollback()
        schema = (connection.get_execution_options().get("schema_translate_map") or {}).get(
            column.table.schema, column.table.schema
        )
        if inspect(connection).has_table(column.table.name, schema):
            raise
        return set()  # a table that does not exist names nothing
    return found


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
