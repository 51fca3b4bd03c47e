"""The way back: files become values of the old column again.

For each batch, in this order::

    read        the refs of rows that have a file, and what the old column says now; the transaction ends
    fetch       side by side, the files whose old value is not there any more
    lock        the rows, but those that others hold locked, which nobody waits for: they are tried again after a pause
    write       UPDATE ... SET old = ..., new = NULL WHERE the row still names that object and has that old value
                the objects are written to the outbox, in the same transaction
    COMMIT

A sweep deletes the objects. A row that somebody else writes meanwhile keeps its file, and is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, select, update
from sqlalchemy.exc import DBAPIError

from granite_storage.exceptions import ConfigurationError, InvalidUploadError, StorageError
from granite_storage.files import StoredFile
from granite_storage.maintenance.deferred import check_deferred
from granite_storage.maintenance.ingest.blaming import is_of_a_row
from granite_storage.maintenance.ingest.fingerprints import digest
from granite_storage.maintenance.ingest.kinds import Kind
from granite_storage.maintenance.ingest.kinds.inline import Inline
from granite_storage.maintenance.ingest.opening import kind_of, outbox_in
from granite_storage.maintenance.ingest.packets import check_packet, largest_packet
from granite_storage.maintenance.ingest.report import ConversionReport, OnProgress
from granite_storage.maintenance.ingest.reporting import Reporter
from granite_storage.maintenance.ingest.storing import ROW_ERRORS
from granite_storage.maintenance.ingest.walking import count, walk
from granite_storage.maintenance.ingest.working import Work, refuse_autocommit, working
from granite_storage.maintenance.row_locks import LOCKED, try_until_free
from granite_storage.observing import StorageChange, tell
from granite_storage.orm.changes import Free
from granite_storage.orm.greenlets import run_side_by_side
from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS
from granite_storage.orm.members import Backend, Location
from granite_storage.orm.outbox import write_freed
from granite_storage.orm.sites import Site
from granite_storage.orm.triggers import FileTrigger, definitions_for
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import Table

    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.maintenance.ingest.keyed_table import Key
    from granite_storage.manager import StorageManager

__all__ = ["put_back"]


def put_back(
    bind: Connection | Engine,
    manager: StorageManager,
    conversion: Conversion,
    *,
    progress: OnProgress | None = None,
    commit: Callable[[], object] | None = None,
) -> ConversionReport:
    """Write files back into an old column, and give their objects up; the file column becomes NULL.

    Where the old column still has the very content nothing is written to it. Files of rows that were made since the
    conversion go back, too; of ``kind="inline"`` only those that came from inline text. It may be killed anywhere and
    run again.

    :param bind: as :func:`.ingest` has it, like the two others.
    :raises ConversionError: if rows cannot be put back, naming them; all others of their batch are.
    :raises StorageError: if the store fails, there is no outbox, or the conversion is none that could be.
    """
    with working(bind, commit) as work:
        kind = kind_of(work.connection, manager, conversion)
        if not isinstance(kind, Inline) and conversion.new not in kind.table.nullable:
            raise ConfigurationError(
                f"{conversion.target} is NOT NULL, and is emptied on the way back: make it nullable in a revision of "
                "its own first"
            )
        refuse_autocommit(
            work.connection, conversion, "on the way back a row and the outbox are written in one transaction"
        )
        outbox = outbox_in(work.connection, conversion)
        by_trigger = _triggers_stand(work.connection, conversion)
        total = count(work.connection, kind.table, kind.returning())
        work.commit()
        about = f"{conversion.target} back into {conversion.old}"
        reporter = Reporter(about, kind.table, total, stop=conversion.on_error == "stop", progress=progress)
        putting = _Putting(work, manager, kind, reporter, None if by_trigger else outbox)
        return walk(work, kind.table, kind.returning(), putting, reporter)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row whose file goes back.

    :param now: what the old column's digest is.
    :param hints: what else its kind asked for.
    """

    key: Key
    file: StoredFile
    now: str | None
    hints: Sequence[Any]

    @property
    def size(self) -> int:
        """Bytes of the file; 0 if the row holds no ref."""
        try:
            return self.file.size
        except StorageError:
            return 0


_Restored = tuple[_Row, Mapping[str, Any]]
"""A row, and what it is to hold."""


@dataclass(slots=True)
class _Written:
    """What became of the rows of a batch.

    :param freed: what those named that were put back.
    :param kept: how many of those had their old value still.
    :param lost: those that somebody else wrote meanwhile.
    :param busy: those that others hold locked.
    :param refused: those that the database does not let be changed.
    """

    freed: list[StoredObjectRef] = field(default_factory=list)
    kept: int = 0
    lost: list[Key] = field(default_factory=list)
    busy: list[_Restored] = field(default_factory=list)
    refused: list[tuple[Key, InvalidUploadError]] = field(default_factory=list)


class _Putting:
    """One run.

    :param outbox: where freed objects are written down; None if triggers do.
    """

    def __init__(
        self, work: Work, manager: StorageManager, kind: Kind, reporter: Reporter, outbox: Table | None
    ) -> None:
        self._work, self._manager, self._kind = work, manager, kind
        self._reporter, self._outbox = reporter, outbox
        self._column = kind.table.column(kind.conversion.new)
        self._packet = largest_packet(work.connection)

    def page(self, which: ColumnElement[bool]) -> list[_Row]:
        """The next rows that have a file, as many as fit into one batch."""
        kind, conversion, table = self._kind, self._kind.conversion, self._kind.table
        width = len(table.key)
        found = self._work.connection.execute(
            select(*table.key, table.text(conversion.new), kind.digest(), *kind.hints())
            .where(kind.returning(), table.has_key(), which)
            .order_by(*table.order())
            .limit(conversion.batch_size)
        ).all()
        rows: list[_Row] = []
        room = conversion.batch_bytes
        for values in found:
            ref, now, *hints = values[width:]
            row = _Row(tuple(values[:width]), StoredFile(self._manager, ref), now, hints)
            room -= row.size
            if rows and room < 0:
                break
            rows.append(row)
        return rows

    def convert(self, rows: Sequence[_Row]) -> list[Key]:
        """Put a batch back, and commit; gives the keys of rows whose file was replaced meanwhile."""
        self._work.commit()
        restored: dict[int, dict[str, Any]] = {}
        errors: dict[int, Exception] = {}

        def restore(place: int, row: _Row) -> None:
            try:
                values = self._kind.restored(row.file, row.now, row.hints)
                check_packet(values.get(self._kind.conversion.old), self._packet)
                restored[place] = values
            except ROW_ERRORS as error:
                errors[place] = error

        run_side_by_side(self._manager.pool, [partial(restore, *one) for one in enumerate(rows)])
        lost = self._write([(rows[place], restored[place]) for place in sorted(restored)])
        for place in sorted(errors):
            if self._names(rows[place]):
                self._reporter.fail(rows[place].key, errors[place])
            else:  # its file was replaced, and the object may be gone since
                lost.append(rows[place].key)
        return lost

    def _names(self, row: _Row) -> bool:
        """Whether a row still says what was read from it."""
        kind, table = self._kind, self._kind.table
        with suppress(StorageError):
            location = row.file.location
            found = self._work.connection.scalar(
                select(Location(self._column)).where(table.is_row(row.key), kind.returning())
            )
            self._work.commit()
            return bool(found == location)
        return True

    def _write(self, restored: Sequence[_Restored]) -> list[Key]:
        """Put rows back, those that others hold locked after a pause; gives those that name another object by now."""
        lost: list[Key] = []

        def attempt(some: Sequence[_Restored]) -> Sequence[_Restored]:
            done = self._commit(some)
            lost.extend(done.lost)
            return done.busy

        for row, _ in try_until_free(self._manager.pool, restored, attempt):
            self._reporter.fail(row.key, InvalidUploadError(LOCKED))
        return lost

    def _commit(self, restored: Sequence[_Restored]) -> _Written:
        """Put rows back, in one transaction."""
        connection, report = self._work.connection, self._reporter.report
        done = _Written()
        with connection.begin_nested():
            self._write_all(restored, done)
        self._work.commit()
        report.rows += len(done.freed)
        report.kept += done.kept
        report.size += sum(ref.size for ref in done.freed)
        for key, problem in done.refused:
            self._reporter.fail(key, problem)
        if done.freed:
            tell(self._manager.observers, StorageChange(freed=tuple(done.freed)))
        return done

    def _write_all(self, restored: Sequence[_Restored], done: _Written) -> None:
        connection, conversion, table = self._work.connection, self._kind.conversion, self._kind.table
        keys = [row.key for row, _ in restored]
        free, busy = table.free_rows(connection, keys, self._kind.returning(), for_unique=True)
        for row, values in restored:
            if row.key in busy:
                done.busy.append((row, values))
                continue
            try:
                written = row.key in free and self._update(row, values)
            except InvalidUploadError as error:
                done.refused.append((row.key, error))
                continue
            except DBAPIError as error:
                if not is_of_a_row(connection, error):
                    raise
                problem = InvalidUploadError(
                    f"the database refuses its content in {conversion.old!r} ({type(error.orig).__name__}); see how "
                    "long a value may be there, and the constraints and triggers of its table"
                )
                problem.__cause__ = error  # whose own message may show the content
                done.refused.append((row.key, problem))
                continue
            if written:
                done.freed.append(row.file.ref)
                done.kept += conversion.old not in values
            else:
                done.lost.append(row.key)
        if self._outbox is not None and done.freed:
            site = Site.of(connection, self._outbox.metadata)
            freed = [Free(self._manager, site, ref, conversion.target) for ref in done.freed]
            write_freed(connection, self._outbox, freed)

    def _update(self, row: _Row, values: Mapping[str, Any]) -> bool:
        """Put one row back, not committed; whether it still named its object."""
        connection, ref, table = self._work.connection, row.file.ref, self._kind.table
        names_it = and_(Location(self._column) == ref.location, Backend(self._column) == ref.backend)
        same = self._kind.digest().is_not_distinct_from(row.now)  # or what is written back, or left, is of another time
        statement = update(table.clause).where(table.is_row(row.key), names_it, same).values(values)
        with connection.begin_nested():
            written = bool(connection.execute(statement).rowcount)
            check_deferred(connection)
            if written and connection.dialect.name in GENERATED_COLUMN_DIALECTS:
                self._check_whole(row, values.get(self._kind.conversion.old))
        return written

    def _check_whole(self, row: _Row, value: str | bytes | None) -> None:
        """Whether the old column has all of a value: MySQL cuts it without an error, unless its sql_mode is strict.

        :raises InvalidUploadError: if not.
        """
        if value is not None and self._kind.conversion.old != self._kind.conversion.new:
            asked = select(self._kind.digest()).where(self._kind.table.is_row(row.key))
            if self._work.connection.scalar(asked) != digest(value):
                raise InvalidUploadError(
                    f"{self._kind.conversion.old!r} does not hold all of its content: see how long a value may be "
                    "there, and of which character set"
                )


def _triggers_stand(connection: Connection, conversion: Conversion) -> bool:
    """Whether the database itself writes down what an UPDATE frees."""
    definitions = definitions_for(connection.dialect.name)
    trigger = FileTrigger(conversion.table, conversion.new, conversion.outbox or "", conversion.schema)
    return definitions is not None and definitions.standing(connection, trigger)
