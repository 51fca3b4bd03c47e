"""Which rows name an object? Asked of the database before every delete, and before an adoption."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Column, Connection, Engine, FromClause, inspect, select, update
from sqlalchemy.exc import DBAPIError, NoSuchTableError, UnboundExecutionError

from granite_storage.batching import batched
from granite_storage.declared import IterReferences, iter_declared
from granite_storage.exceptions import ConfigurationError, InvalidRefError, StorageError
from granite_storage.files import StoredFile
from granite_storage.orm.fields import mapper_of
from granite_storage.orm.location_index import indexed_location
from granite_storage.orm.sites import own_connection, translated
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.orm import Session

    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Desk

__all__ = [
    "Asking",
    "Identity",
    "Source",
    "Wanted",
    "declared_among",
    "identities_of",
    "named",
    "named_within",
    "ref_columns",
    "sources_of",
]

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
            try:  # a session that reads from a replica is to give the database it writes to
                bind = engine or session.get_bind(mapper=mapper_of(column.table), clause=update(column.table))
            except UnboundExecutionError:
                sources.append(Source(column, None))
            else:
                own = bind.engine is connection.engine
                sources.append(Source(column, bind.engine, schemas if own else _schemas(bind) or None))
    return tuple(sources)


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask which rows name an object, and how.

    :param sources: every column that may name it.
    :param written: the tables that a transaction wrote, which must be there; any other that is missing names nothing.
    :param idle: open connections that are in no transaction; they are used where they fit, and left so.
    :param desk: a connection of our own that is used for its database, in the transaction that it is in.
    :param kept: objects that declared references name, which were asked before: with no connection and no lock held,
        since each gives all refs it has. The end of a transaction asks rows only.
    """

    sources: Collection[Source]
    written: Collection[FromClause] = ()
    idle: Collection[Connection] = ()
    desk: Desk | None = None
    kept: Collection[Identity] = ()

    def at(self, desk: Desk) -> Self:
        """The same, asked at a desk."""
        return replace(self, desk=desk)

    def keeping(self, kept: Collection[Identity]) -> Self:
        """The same, with objects that declared references name."""
        return replace(self, kept=kept)

    def end_step(self) -> None:
        """Let go of what was read, where the desk holds no locks that must last."""
        if self.desk is not None:
            self.desk.end_step()


class Wanted(set[Identity]):
    """Objects that are asked for, by all identities that each has."""

    def __init__(self, manager: StorageManager, objects: Iterable[Identity]) -> None:
        self.objects = set(objects)
        super().__init__(self.objects)
        self._also: dict[Identity, set[Identity]] = defaultdict(set)
        for one in self.objects:
            for other in manager.identities(one)[1:]:
                self._also[other].add(one)
        self.update(self._also)

    def of(self, found: Iterable[Identity]) -> set[Identity]:
        """The objects that have these identities."""
        objects: set[Identity] = set()
        for identity in found:
            objects |= self._also.get(identity, set())
            objects.add(identity)
        return objects & self.objects


def named(manager: StorageManager, objects: Iterable[Identity], asking: Asking) -> set[Identity]:
    """Those of ``objects`` that some row names, as committed now.

    :raises SQLAlchemyError: if a database does not answer; then nobody knows, and nothing may be deleted.
    :raises ConfigurationError: if nobody can tell which database to ask.
    """
    wanted = Wanted(manager, objects)
    found: set[Identity] = set()
    in_order = sorted(asking.sources, key=lambda source: (id(source.engine), repr(source.schema_translate_map)))
    for _, group in groupby(in_order, key=lambda source: (id(source.engine), repr(source.schema_translate_map))):
        columns = list(group)
        with _reading(columns[0], asking) as connection:
            for source in columns:
                found |= _named_in(connection, manager, wanted, source.column, asking.written)
    return wanted.of(found)


def declared_among(
    manager: StorageManager, objects: Collection[Identity], declared: Iterable[IterReferences]
) -> set[Identity]:
    """Those of ``objects`` that declared references name, as committed now; none is asked if there are no objects.

    :raises StorageError: if one of them is no reference.
    """
    wanted = Wanted(manager, objects)
    found: set[Identity] = set()
    for iterate in declared if objects else ():
        for ref in iter_declared(iterate):
            found |= identities_of(manager, ref, wanted)
    return wanted.of(found)


def named_within(
    connection: Connection, manager: StorageManager, objects: Iterable[Identity], sources: Iterable[Source]
) -> set[Identity]:
    """As :func:`named`, but as the transaction of ``connection`` sees its own database."""
    inside: list[Source] = []
    outside: list[Source] = []
    for source in sources:
        same = source.engine is not None and source.engine.pool is connection.engine.pool
        (inside if same else outside).append(source)
    wanted = Wanted(manager, objects)
    found = named(manager, wanted.objects, Asking(outside))
    for source in inside:
        savepoint = connection.begin_nested()  # a table that is missing must not end the user's transaction
        try:
            found |= _named_in(connection, manager, wanted, source.column)
        finally:
            if savepoint.is_active:
                savepoint.rollback()
    return wanted.of(found)


@contextmanager
def _reading(source: Source, asking: Asking) -> Iterator[Connection]:
    """A connection to a source's database that sees what is committed now."""
    if source.engine is None:
        raise ConfigurationError(
            f"nobody can tell in which database {source.column.table} is, and whether it names an "
            "object that is to be deleted or adopted; say so: manager.attach(Base, engine=...)"
        )
    pool, schemas = source.engine.pool, source.schema_translate_map
    desk = asking.desk
    if desk is not None and desk.connection.engine.pool is pool:  # it may be the only connection of the pool
        with translated(desk.connection, schemas):
            yield desk.connection
        return
    for connection in asking.idle:
        if connection.engine.pool is pool:
            try:
                with translated(connection, schemas):
                    yield connection
            finally:
                connection.rollback()
            return
    with own_connection(source.engine, schemas) as connection:
        yield connection


def _schemas(connection: Connection | Engine) -> Any:
    return connection.get_execution_options().get("schema_translate_map") or {}


def _named_in(
    connection: Connection,
    manager: StorageManager,
    wanted: Collection[Identity],
    column: Column[Any],
    written: Collection[FromClause] = (),
) -> set[Identity]:
    found: set[Identity] = set()
    locations = sorted({location for _, location in wanted})
    try:
        place = indexed_location(connection, column)
        for batch in batched(locations, _BATCH):
            rows = connection.execute(select(column).where(place.in_(batch)))
            for (value,) in rows:
                found |= identities_of(manager, value, wanted)
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
    schemas = _schemas(connection)
    schema = column.table.schema
    return inspect(connection).has_table(column.table.name, schemas.get(schema, schema))


def identities_of(manager: StorageManager, value: Any, wanted: Collection[Identity]) -> set[Identity]:
    """Those of ``wanted`` that a column's value, or a ref, names or may name."""
    try:
        ref = value.ref if isinstance(value, StoredFile) else value
        location = ref.location
    except InvalidRefError:
        return set(wanted)  # a location stands there, but nobody can tell whose: it may be any of them
    try:
        return {manager.identity(ref)}.intersection(wanted)
    except StorageError:
        return {identity for identity in wanted if identity[1] == location}
