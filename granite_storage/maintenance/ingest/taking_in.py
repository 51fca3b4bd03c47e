"""The way up: what an old column holds becomes files.

For each batch, in this order::

    read        the values of rows that have one, and no file; the transaction ends
    store       side by side; no transaction is open, and no row is locked
    check       that the store has what it was given
    lock        the rows, but those that others hold locked, which nobody waits for: they are tried again after a pause
    switch      UPDATE ... WHERE the row still has no file, and its old value still is the one that was read;
                row by row if the database objects to one of them, which is reported
    look again  whether a sweep may take what was stored for left over: an UPDATE may have waited for somebody's lock
    COMMIT

So whatever is cut off leaves rows as they were, and objects that no row names, which a sweep finds as those of any
upload. A row that somebody else writes meanwhile is not switched; what was stored for it is deleted, and it is read
again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ColumnElement, Connection, Engine, null, select, update
from sqlalchemy.exc import DBAPIError

from granite_storage.exceptions import InvalidRefError, InvalidUploadError, UploadExpiredError
from granite_storage.maintenance.deferred import check_deferred
from granite_storage.maintenance.ingest.blaming import is_of_a_row
from granite_storage.maintenance.ingest.fingerprints import OctetLength
from granite_storage.maintenance.ingest.kinds import Kind, Row
from granite_storage.maintenance.ingest.old_values import OldValue
from granite_storage.maintenance.ingest.opening import opened
from granite_storage.maintenance.ingest.report import ConversionReport, OnProgress
from granite_storage.maintenance.ingest.reporting import Reporter
from granite_storage.maintenance.ingest.storing import ROW_ERRORS, discard, store_values
from granite_storage.maintenance.ingest.walking import count, walk
from granite_storage.maintenance.ingest.working import Work, working
from granite_storage.maintenance.row_locks import LOCKED, try_until_free
from granite_storage.observing import StorageChange, tell
from granite_storage.orm.ledger import OF_GRACE, is_too_old
from granite_storage.orm.registry import known_database_id
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import Table

    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.maintenance.ingest.keyed_table import Key
    from granite_storage.manager import StorageManager

__all__ = ["ingest"]


def ingest(
    bind: Connection | Engine,
    manager: StorageManager,
    conversion: Conversion,
    *,
    progress: OnProgress | None = None,
    commit: Callable[[], object] | None = None,
) -> ConversionReport:
    """Store what an old column holds, and write the refs into a file column; the old column stays as it is.

    NULL stays NULL; an empty text, or no bytes, becomes an empty file; an empty path names none. It may be killed
    anywhere and run again, which goes on with the rows that have no file yet.

    :param bind: the engine; or a connection in no transaction, which then is committed batch by batch.
    :param progress: called after each batch.
    :param commit: what commits on the connection, where ``commit()`` of its own does not.
    :raises ConversionError: if rows cannot be converted, naming them; all others of their batch are.
    :raises StorageError: if the store fails, or the conversion is none that could be.
    """
    with working(bind, commit) as work:
        kind, registry = opened(work, manager, conversion)
        total = count(work.connection, kind.table, kind.waiting())
        work.commit()
        about = f"{conversion.source} into {conversion.new}"
        reporter = Reporter(about, kind.table, total, stop=conversion.on_error == "stop", progress=progress)
        taking = _Taking(work, manager, kind, registry, reporter)
        return walk(work, kind.table, kind.waiting(), taking, reporter)


@dataclass(slots=True)
class _Switched:
    """What became of the rows of a batch.

    :param won: those that name their files.
    :param lost: those that somebody else wrote meanwhile.
    :param busy: those that others hold locked.
    :param refused: those that the database does not let be changed.
    """

    won: dict[Row, StoredObjectRef] = field(default_factory=dict)
    lost: dict[Row, StoredObjectRef] = field(default_factory=dict)
    busy: dict[Row, StoredObjectRef] = field(default_factory=dict)
    refused: dict[Row, InvalidUploadError] = field(default_factory=dict)


class _Taking:
    """One run."""

    def __init__(
        self, work: Work, manager: StorageManager, kind: Kind, registry: Table | None, reporter: Reporter
    ) -> None:
        self._work, self._manager, self._kind, self._registry = work, manager, kind, registry
        self._reporter = reporter
        self._marked = False

    def page(self, which: ColumnElement[bool]) -> list[Row]:
        """The next rows that wait for their conversion, as many as fit into one batch."""
        kind, conversion, table = self._kind, self._kind.conversion, self._kind.table
        named = [conversion.filename_column, conversion.content_type_column]
        others = [null() if name is None else table.text(name) for name in named]
        found = self._work.connection.execute(
            select(*table.key, OctetLength(kind.value), *others)
            .where(kind.waiting(), table.has_key(), which)
            .order_by(*table.order())
            .limit(conversion.batch_size)
        ).all()
        rows: list[Row] = []
        width = len(table.key)
        room = conversion.batch_bytes
        for values in found:
            size, filename, content_type = values[width:]
            room -= size or 0
            if rows and room < 0:
                break
            rows.append(
                Row(tuple(values[:width]), size or 0, filename or None, content_type or conversion.content_type)
            )
        return rows

    def convert(self, rows: Iterable[Row]) -> list[Key]:
        """Convert rows; gives the keys of those that somebody else wrote meanwhile."""
        with ExitStack() as closing:
            values: dict[Row, OldValue] = {}
            for row in rows:
                try:
                    value = self._kind.read(self._work.connection, row)
                except ROW_ERRORS as error:
                    self._reporter.fail(row.key, error)
                    continue
                if value is not None:
                    values[row] = value
                    closing.callback(value.close)
            self._work.commit()
            refs, errors = store_values(self._manager, self._kind, values)
            for row, problem in errors.items():
                self._reporter.fail(row.key, problem)
            return self._switch(refs, values)

    def _check_ages(self, refs: Collection[StoredObjectRef], more: str = "") -> None:
        if any(is_too_old(self._manager, ref.location) for ref in refs):
            raise UploadExpiredError(
                f"storing a batch of {len(refs)}{more} took longer than {OF_GRACE} of the manager's grace period of "
                f"{self._manager.grace}, after which a sweep may take its uploads for left over ones: give a smaller "
                "batch_size=, or the manager a longer grace"
            )

    def _switch(self, refs: dict[Row, StoredObjectRef], values: dict[Row, OldValue]) -> list[Key]:
        """Have rows name their files, those that others hold locked after a pause; what nobody names is deleted."""
        unnamed = dict(refs)
        lost: list[Key] = []

        def attempt(some: dict[Row, StoredObjectRef]) -> dict[Row, StoredObjectRef]:
            done = self._commit(some, values)
            for row in done.won:
                del unnamed[row]
            for row, problem in done.refused.items():
                self._reporter.fail(row.key, problem)
            lost.extend(row.key for row in done.lost)
            return done.busy

        try:
            self._check_ages(refs.values())
            locked = try_until_free(self._manager.pool, refs, attempt)
        except UploadExpiredError:
            self._discard(unnamed)
            raise
        self._discard(unnamed)
        for row in locked:
            self._reporter.fail(row.key, InvalidUploadError(LOCKED))
        return lost

    def _commit(self, refs: dict[Row, StoredObjectRef], values: dict[Row, OldValue]) -> _Switched:
        """Have rows name their files, in one transaction."""
        done = _Switched()
        connection = self._work.connection
        try:
            with connection.begin_nested():
                self._update_all(refs, values, done)
                self._check_ages(done.won.values(), ", and waiting for locks that others hold,")
        except UploadExpiredError:
            self._work.commit()  # nothing: it is undone
            raise
        self._work.commit()
        for row in self._named(done.lost):
            done.won[row] = done.lost.pop(row)
        self._reporter.report.rows += len(done.won)
        self._reporter.report.size += sum(ref.size for ref in done.won.values())
        if done.won:
            tell(self._manager.observers, StorageChange(stored=tuple(done.won.values())))
            self._mark()
        return done

    def _named(self, refs: dict[Row, StoredObjectRef]) -> list[Row]:
        """The rows that name their files after all: a trigger wrote them, or the table has no transactions."""
        table = self._kind.table
        text = table.text(self._kind.conversion.new)
        named: set[str] = set()
        for _, which in table.batches([row.key for row in refs]):
            for value in self._work.connection.scalars(select(text).where(which, text.is_not(None))):
                with suppress(InvalidRefError, TypeError):
                    named.add(StoredObjectRef.from_json(value).location)
        self._work.commit()
        return [row for row, ref in refs.items() if ref.location in named]

    def _discard(self, refs: dict[Row, StoredObjectRef]) -> None:
        """Delete what was stored and no row names."""
        kept = {*self._named(refs)}
        discard(self._manager, [ref for row, ref in refs.items() if row not in kept])

    def _update_all(self, refs: dict[Row, StoredObjectRef], values: dict[Row, OldValue], done: _Switched) -> None:
        """Have rows name their files; each by itself if the database objects to one of them."""
        table, connection = self._kind.table, self._work.connection
        free, busy = table.free_rows(connection, [row.key for row in refs], self._kind.waiting(), for_unique=False)
        done.busy |= {row: ref for row, ref in refs.items() if row.key in busy}
        done.lost |= {row: ref for row, ref in refs.items() if row.key not in free and row.key not in busy}
        refs = {row: ref for row, ref in refs.items() if row.key in free}
        if self._update(refs, values, done) is None:
            return
        for row, ref in refs.items():
            error = self._update({row: ref}, values, done)
            if error is not None:
                done.refused[row] = InvalidUploadError(
                    f"the database refuses to change the row ({type(error.orig).__name__}); see its constraints and "
                    "triggers"
                )
                done.refused[row].__cause__ = error

    def _update(
        self, refs: dict[Row, StoredObjectRef], values: dict[Row, OldValue], done: _Switched
    ) -> DBAPIError | None:
        """Have rows name their files, all or none; gives what the database says against it."""
        connection = self._work.connection
        some = _Switched()
        try:
            with connection.begin_nested():
                for row, ref in refs.items():
                    written = connection.execute(self._statement(row, ref, values[row])).rowcount
                    (some.won if written else some.lost)[row] = ref
                check_deferred(connection)
        except DBAPIError as error:
            if not is_of_a_row(connection, error):
                raise
            return error
        done.won |= some.won
        done.lost |= some.lost
        return None

    def _statement(self, row: Row, ref: StoredObjectRef, value: OldValue) -> Any:
        kind, table = self._kind, self._kind.table
        native = kind.json and isinstance(table.types[kind.conversion.new], JSON)
        return (
            update(table.clause)
            .where(table.is_row(row.key), kind.waiting(), kind.digest() == value.digest)
            .values({kind.conversion.new: ref.to_dict() if native else ref.to_json()})
        )

    def _mark(self) -> None:
        """Note at the policy's prefix, once, that this database names objects there."""
        if self._marked or self._registry is None:
            return
        self._marked = True
        database = known_database_id(self._work.connection, self._registry)
        self._work.commit()
        if database is not None:
            policy = self._manager.get_policy(self._kind.conversion.policy)
            self._manager.ownership.mark(self._manager.get_backend_for_policy(policy), policy, database)
