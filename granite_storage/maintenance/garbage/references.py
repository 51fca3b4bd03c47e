"""Which of many objects are named? Asked in bulk: for a stretch of a listing at once, after it was listed.

What this misses is asked again, object by object, before anything is counted an orphan or deleted
(:mod:`granite_storage.maintenance.left_over`). So it must never say "named" of what is not, and may say "not named" of
what was named a moment ago.

SQLite, MariaDB and MySQL keep the location index in byte order, so that the names between two locations are one
stretch of it. PostgreSQL keeps it in the order of the database's language, so there it is asked for each location.
A column without a location index is read once, into a spool; so is every column where there are many databases.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, any_, literal, select

from granite_storage.declared import IterReferences, iter_declared
from granite_storage.maintenance.places import FileColumnAt, columns_there
from granite_storage.maintenance.plain_rows import plain_rows
from granite_storage.maintenance.spool import LocationSpool
from granite_storage.orm.location_index import has_location_index, in_byte_order, indexed_location
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Connection

    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site

__all__ = ["MANY_SITES", "References"]

MANY_SITES = 20  # of more, such as a schema per tenant, each is read once: they would all be asked for each stretch


class References:
    """Everything that may name an object of a manager's: columns of refs, and declared references.

    :param sites: where the columns are.
    :param declared: what else names objects.
    :param spool: where columns without an index, and declared references, are written.
    """

    def __init__(
        self, manager: StorageManager, sites: Iterable[Site], declared: Sequence[IterReferences], spool: LocationSpool
    ) -> None:
        self._manager = manager
        self._spool = spool
        self._indexed: list[tuple[Site, list[Column[Any]]]] = []
        unindexed: list[FileColumnAt] = []
        several = [*sites]
        for site in several:
            columns = []
            for column in columns_there(site):
                if len(several) <= MANY_SITES and has_location_index(column):
                    columns.append(column)
                else:
                    unindexed.append(FileColumnAt(site, column))
            if columns:
                self._indexed.append((site, columns))
        for place in unindexed:
            spool.add_named(_all_of(place))
        for iterate in declared:
            spool.add_named((ref.location, ref.backend) for ref in iter_declared(iterate))

    def unnamed(self, backend_key: str, locations: Sequence[str]) -> set[tuple[str]]:
        """Those of ``locations``, in byte order, that nothing names at a backend.

        :returns: rows of one column, as a cursor gives them: no row is unpacked for millions.
        :raises SQLAlchemyError: if a database does not answer.
        """
        listed = list(zip(locations, strict=False))
        left: set[tuple[str]] | None = None
        for site, columns in self._indexed:
            with site.desk() as desk:
                for column in columns:
                    with closing(_named(desk.connection, column, locations, self._others(backend_key))) as parts:
                        for names in parts:
                            if left is None:
                                if names == listed:  # in the usual case nothing has to be hashed
                                    return set()
                                left = set(listed)
                            left.difference_update(names)
        if left is None:
            left = set(listed)
        if len(self._spool):
            others = self._others(backend_key)
            left.difference_update(self._spool.within(locations[0], locations[-1], without=others))
        return left

    def _others(self, backend_key: str) -> frozenset[str]:
        """The backends of the manager that are other stores: what a ref names there it does not name here."""
        return frozenset(name for name in self._manager.backends if not self._manager.same_store(name, backend_key))


def _named(
    connection: Connection, column: Column[Any], locations: Sequence[str], others: frozenset[str]
) -> Generator[Sequence[Sequence[str]], None, None]:
    place = indexed_location(connection, column)
    chosen: list[ColumnElement[Any]] = [place, FileComparator(column).backend] if others else [place]
    statement = select(*chosen).where(_named_among(connection, place, locations))
    if connection.dialect.name != "postgresql":
        statement = statement.order_by(place)  # as the index has it
    with closing(plain_rows(connection, statement)) as several:
        for rows in several:
            yield rows if not others else [(location,) for location, backend in rows if backend not in others]
    connection.rollback()


def _named_among(connection: Connection, place: ColumnElement[str], locations: Sequence[str]) -> ColumnElement[bool]:
    name = connection.dialect.name
    if name == "postgresql":
        from sqlalchemy.dialects.postgresql import ARRAY

        return place == any_(literal(list(locations), ARRAY(Text())))
    return in_byte_order(name, place).between(locations[0], locations[-1])


def _all_of(place: FileColumnAt) -> Iterator[tuple[str, str | None]]:
    file = FileComparator(place.column)
    statement = select(file.location, file.backend).where(file.location.is_not(None))
    with place.site.desk() as desk:
        for rows in plain_rows(desk.connection, statement):
            yield from map(tuple, rows)
