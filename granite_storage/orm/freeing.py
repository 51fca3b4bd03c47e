"""Freeing: what a statement or a flush takes out of rows is written down, in the ledger and in the outbox.

Where a table has triggers the database itself has written the outbox by then; it is written here for what no row
ever held, and for all of it where the triggers turn out to be missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from granite_storage.orm.changes import Free
from granite_storage.orm.ledger import ledger_of
from granite_storage.orm.outbox import forget, outbox_of, write_freed
from granite_storage.orm.sites import Site
from granite_storage.orm.triggers import triggers_stand

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Mapper, Session

    from granite_storage.orm.fields import FileField
    from granite_storage.refs import StoredObjectRef

__all__ = ["Freeing"]


class Freeing:
    """What one flush, or one statement, of a session frees: collected, then written at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._freed: dict[Connection, list[Free]] = {}
        self._moved: dict[tuple[Connection, Site], list[StoredObjectRef]] = {}
        self._by_trigger: dict[tuple[Mapper[object], FileField], bool] = {}

    def add(
        self,
        mapper: Mapper[object],
        field: FileField,
        ref: StoredObjectRef,
        *,
        in_row: bool = True,
        connection: Connection | None = None,
    ) -> None:
        """An object that a field gave up, or, with ``in_row=False``, that was stored for it and no row ever held.

        :param connection: where the row is or was; by default where the session flushes the mapper to.
        """
        if connection is None:
            connection = self._session.connection(bind_arguments={"mapper": mapper})
        site = Site.of(connection, field.column.table.metadata)
        by_trigger = in_row and self._has_trigger(connection, mapper, field)
        source = f"{field.column.table.fullname}.{field.column.name}"
        self._freed.setdefault(connection, []).append(Free(field.home.manager, site, ref, source, by_trigger, in_row))

    def moved(self, moves: Iterable[tuple[Mapper[object], FileField, StoredObjectRef]]) -> None:
        """Objects that another row holds now: what triggers wrote when the first row gave them up is wrong."""
        for mapper, field, ref in moves:
            connection = self._session.connection(bind_arguments={"mapper": mapper})
            if self._has_trigger(connection, mapper, field):
                site = Site.of(connection, field.column.table.metadata)
                self._moved.setdefault((connection, site), []).append(ref)

    def write(self) -> None:
        """Write it down: one INSERT for each outbox.

        :raises ConfigurationError: if an outbox is missing, saying how to make it.
        """
        for (connection, site), refs in self._moved.items():
            outbox = outbox_of(site.metadata)
            if outbox is not None:
                forget(connection, outbox, refs)
        for connection, freed in self._freed.items():
            ledger_of(self._session).free(freed)
            for metadata in {one.site.metadata for one in freed}:
                outbox = outbox_of(metadata)
                ours = [one for one in freed if one.site.metadata is metadata and not one.by_trigger]
                if outbox is not None and ours:
                    write_freed(connection, outbox, ours)

    def _has_trigger(self, connection: Connection, mapper: Mapper[object], field: FileField) -> bool:
        known = self._by_trigger.get((mapper, field))
        if known is None:
            known = self._by_trigger[mapper, field] = triggers_stand(connection, field.column)
        return known
