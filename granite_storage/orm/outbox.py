"""The outbox: the table of freed objects, written in the same transaction as the change that frees them.

A row says that nobody names an object any more, as soon as it is durable, and no sooner. Whoever deletes the object
(the end of the transaction, or a sweep) removes the row after it; whatever is cut off in between leaves the row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from granite_storage.batching import batched
from granite_storage.exceptions import ConfigurationError, InvalidRefError
from granite_storage.orm.database_time import database_time, instant_type, later_than
from granite_storage.orm.options import options_of
from granite_storage.orm.refusals import is_read_only, lacks_right, number_of, state_of
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, MetaData
    from sqlalchemy.types import TypeEngine

    from granite_storage.orm.changes import Free

__all__ = [
    "BATCH",
    "OutboxRow",
    "add_outbox",
    "awaited",
    "claim_rows",
    "due_after",
    "forget",
    "is_due",
    "is_free",
    "lock_idle",
    "outbox_of",
    "postpone",
    "remove",
    "retain_unset",
    "rows_after",
    "seen_idle",
    "skips_locked",
    "told_if_missing",
    "write_freed",
]

BATCH = 1000
"""How many rows, or locations, one statement names at most."""

_KEY = "granite_storage.outbox"
_MISSING_TABLE = ("42P01", "42S02", 1146)  # PostgreSQL's SQLSTATE, MySQL's, and MySQL's own number


def exact(length: int) -> TypeEngine[Any]:
    """A text column that tells texts apart whatever the collation of the database.

    On MariaDB and MySQL two that differ only in blanks at the end are one in a comparison.
    """
    from sqlalchemy.dialects import mysql  # as long to import as the ORM: not before a field is declared

    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(binary, "mysql", "mariadb")


def add_outbox(metadata: MetaData) -> Table | None:
    """Let the outbox join a MetaData that has file fields; once, however often it is called.

    :returns: the table; None if the MetaData has none.
    :raises ConfigurationError: if the application has another table of that name.
    """
    known = outbox_of(metadata)
    name = options_of(metadata).outbox
    if known is not None or name is None:
        return known
    if (f"{metadata.schema}.{name}" if metadata.schema else name) in metadata.tables:
        raise ConfigurationError(
            f"the MetaData has a table {name!r} of its own, which is to be the outbox of its file fields; "
            "give the outbox another name: MetaData(info=metadata_options(outbox=...))"
        )
    return Table(
        name,
        metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        Column("backend", exact(255), nullable=False),
        Column("location", exact(1024), nullable=False),
        Column("storage_key", exact(255), nullable=False),
        Column("size", BigInteger()),
        Column("source", exact(255)),
        Column("freed_at", instant_type(), nullable=False, server_default=database_time()),
        Column("not_before", instant_type()),
        Column("attempts", Integer(), nullable=False, server_default="0"),
        Column("last_error", Text()),
        Index(f"ix_{name}__location"[:60], "location", mysql_length={"location": 255}),
        Index(f"ix_{name}__not_before"[:60], "not_before"),
        info={_KEY: True},
        comment="granite-storage: objects that no row names any more, to be deleted",
    )


def outbox_of(metadata: MetaData) -> Table | None:
    """The outbox of a MetaData, or None if it has none."""
    name = options_of(metadata).outbox
    if name is None:
        return None
    table = metadata.tables.get(f"{metadata.schema}.{name}" if metadata.schema else name)
    return table if table is not None and table.info.get(_KEY) else None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of an outbox that was claimed.

    :param ref: None if the row names nothing that could be an object; ``problem`` says why.
    """

    id: int
    ref: StoredObjectRef | None
    attempts: int
    location: str
    problem: str = ""


def write_freed(connection: Connection, outbox: Table, freed: Sequence[Free]) -> None:
    """Write freed objects down, in the transaction that frees them: one INSERT, and another if some are retained.

    :raises ConfigurationError: if the table is missing, saying how to make it.
    """
    rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for one in freed:
        row: dict[str, Any] = {
            "backend": one.ref.backend,
            "location": one.ref.location,
            "storage_key": one.ref.storage_key,
            "size": one.ref.size,
            "source": one.source[:255],
        }
        if one.retained:
            row["retain"] = one.retained
        rows[bool(one.retained)].append(row)
    for retained, batch in rows.items():
        if batch:
            statement = insert(outbox)
            if retained:
                statement = statement.values(not_before=database_time(bindparam("retain")))
            with _in(outbox):
                connection.execute(statement, batch)


def claim_rows(
    connection: Connection,
    outbox: Table,
    *,
    locations: Collection[str] | None = None,
    after: int = 0,
    retained: Collection[str] = (),
) -> Iterator[OutboxRow]:
    """Lock due rows that no other worker has locked, where the database has row locks.

    :param locations: only the rows of these; by default the first :data:`BATCH` rows there are.
    :param after: only rows with a greater id.
    :param retained: as :func:`is_due` has it.
    :raises ConfigurationError: if the table is missing, saying how to make it.
    """
    columns = outbox.c
    statement = _read(outbox).where(is_due(outbox, retained)).with_for_update(skip_locked=skips_locked(connection))
    if connection.dialect.name == "postgresql":  # a removed row that a crash brings back is harmless
        statement = statement.add_columns(func.set_config("synchronous_commit", "off", True))
    if locations is None:
        batches = [statement.where(columns.id > after).order_by(columns.id).limit(BATCH)]
    else:
        batches = [statement.where(columns.location.in_(group)) for group in batched(sorted(locations), BATCH)]
    for batch in batches:
        with _in(outbox):
            rows = connection.execute(batch).all()
        yield from map(_outbox_row, rows)


def rows_after(connection: Connection, outbox: Table, last: int) -> list[OutboxRow]:
    """The first :data:`BATCH` rows with a greater id, due or not, whoever works on them.

    :raises ConfigurationError: if the table is missing, saying how to make it.
    """
    with _in(outbox):
        rows = connection.execute(_read(outbox).where(outbox.c.id > last).order_by(outbox.c.id).limit(BATCH)).all()
    return [_outbox_row(row) for row in rows]


def due_after(connection: Connection, outbox: Table, last: int, retained: Collection[str] = ()) -> list[OutboxRow]:
    """The first :data:`BATCH` due rows with a greater id, whoever works on them; arguments as of :func:`claim_rows`."""
    statement = _read(outbox).where(is_due(outbox, retained), outbox.c.id > last).order_by(outbox.c.id).limit(BATCH)
    with _in(outbox):
        return [_outbox_row(row) for row in connection.execute(statement)]


def lock_idle(connection: Connection, outbox: Table, rows: Iterable[int]) -> set[int]:
    """Lock those of some rows that are still there and that nobody works on; gives their ids."""
    locked = set[int]()
    statement = select(outbox.c.id).with_for_update(skip_locked=skips_locked(connection))
    for ids in batched(sorted(rows), BATCH):
        locked |= set(connection.scalars(statement.where(outbox.c.id.in_(ids))))
    return locked


def seen_idle(connection: Connection, outbox: Table, rows: Iterable[int]) -> set[int]:
    """Those of some rows that are still there and that nobody works on, as far as the database lets us see that.

    A role that may only read is refused the lock that tells; then all that are still there are given. The transaction
    is over.
    """
    ids = sorted(rows)
    try:
        return lock_idle(connection, outbox, ids)
    except DBAPIError as error:
        if not (is_read_only(error) or lacks_right(error)):
            raise
        connection.rollback()
        statement = select(outbox.c.id)
        return {
            one for batch in batched(ids, BATCH) for one in connection.scalars(statement.where(outbox.c.id.in_(batch)))
        }
    finally:
        connection.rollback()


def is_due(outbox: Table, retained: Collection[str] = ()) -> ColumnElement[bool]:
    """What tells the rows whose objects may be deleted now.

    :param retained: policies whose rows are not due while nothing says when they will be: a trigger wrote those, which
        knows no policy, and a sweep sets ``not_before``.
    """
    unset: ColumnElement[bool] = outbox.c.not_before.is_(None)
    if retained:
        unset &= outbox.c.storage_key.not_in(sorted(retained))
    return or_(unset, outbox.c.not_before <= database_time())


def remove(connection: Connection, outbox: Table, rows: Iterable[int]) -> None:
    """Remove rows by their ids.

    On MariaDB and MySQL each by itself, in one batch: ``IN (...)`` scans a small table, and a scan waits for the rows
    of other transactions that are still open.
    """
    ids = list(rows)
    if ids and connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(delete(outbox).where(outbox.c.id == bindparam("row")), [{"row": one} for one in ids])
        return
    for batch in batched(ids, BATCH):
        connection.execute(delete(outbox).where(outbox.c.id.in_(batch)))


def postpone(connection: Connection, outbox: Table, failed: Iterable[tuple[OutboxRow, str, float]]) -> None:
    """Note failures: each a row, what went wrong, and for how many seconds it is to be left alone."""
    parameters = [{"row": row.id, "error": error, "seconds": seconds} for row, error, seconds in failed]
    if parameters:
        connection.execute(
            update(outbox)
            .where(outbox.c.id == bindparam("row"))
            .values(
                attempts=outbox.c.attempts + 1,
                last_error=bindparam("error"),
                not_before=database_time(bindparam("seconds")),
            ),
            parameters,
        )


def is_free(connection: Connection, outbox: Table, location: str) -> bool:
    """Whether the outbox says that an object at this location is free, so that it may be deleted any moment.

    :raises ConfigurationError: if the table is missing, saying how to make it.
    """
    with _in(outbox):
        return connection.scalar(select(1).where(outbox.c.location == location).limit(1)) is not None


def awaited(connection: Connection, outbox: Table, locations: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Those at these locations that stand in the outbox, so that it decides when they go: policy, backend, location."""
    named = outbox.c
    for batch in batched(sorted(locations), BATCH):
        statement = select(named.storage_key, named.backend, named.location).where(named.location.in_(batch))
        yield from map(tuple, connection.execute(statement).all())


def retain_unset(connection: Connection, outbox: Table, policy: str, retain: float) -> None:
    """Say until when rows of a policy that triggers wrote are retained; committed.

    The ids are read first: an UPDATE by these criteria would wait on MariaDB for rows of transactions that are open.

    :param retain: seconds.
    """
    unset = outbox.c.not_before.is_(None) & (outbox.c.storage_key == policy)
    while ids := connection.scalars(select(outbox.c.id).where(unset).order_by(outbox.c.id).limit(BATCH)).all():
        connection.rollback()  # SQLite would not let two that have read write
        later = later_than(outbox.c.freed_at, retain)
        connection.execute(update(outbox).where(outbox.c.id.in_(ids), unset).values(not_before=later))
        connection.commit()
    connection.rollback()


def forget(connection: Connection, outbox: Table, refs: Iterable[StoredObjectRef]) -> int:
    """Remove the rows of objects that are not free after all; gives how many rows that were.

    The ids are read first: deleting by location would lock the gaps beside it on MariaDB (REPEATABLE READ), and other
    sessions' INSERTs would wait for them.

    :param refs: as the rows named them: their ``backend`` is as it was written.
    :raises ConfigurationError: if the table is missing, saying how to make it.
    """
    objects = sorted({(ref.location, ref.backend) for ref in refs})
    ids: list[int] = []
    for batch in batched(objects, BATCH):
        named = outbox.c.location.in_({location for location, _ in batch})
        with _in(outbox):
            found = connection.execute(select(outbox.c.id, outbox.c.location, outbox.c.backend).where(named)).all()
        ids += [row.id for row in found if (row.location, row.backend) in batch]
    remove(connection, outbox, ids)
    return len(ids)


def _read(outbox: Table) -> Any:
    columns = outbox.c
    return select(columns.id, columns.backend, columns.location, columns.storage_key, columns.size, columns.attempts)


def _outbox_row(row: Any) -> OutboxRow:
    try:
        ref = StoredObjectRef(row.storage_key, row.backend, row.location, row.size or 0, "")
    except InvalidRefError as error:  # a trigger writes down what stood in the row, whatever it was
        return OutboxRow(row.id, None, row.attempts, row.location, str(error))
    return OutboxRow(row.id, ref, row.attempts, row.location)


def skips_locked(connection: Connection) -> bool:
    """Whether the database has SKIP LOCKED; MariaDB has it since 10.6."""
    dialect = connection.dialect
    return not (getattr(dialect, "is_mariadb", False) and (dialect.server_version_info or ()) < (10, 6))


@contextmanager
def told_if_missing(table: Table, otherwise: str = "") -> Iterator[None]:
    """Say how to make a table of ours, where a database finds that it is missing.

    :raises ConfigurationError: naming the table and the remedy.
    """
    try:
        yield
    except DBAPIError as error:
        if not {state_of(error), number_of(error)} & {*_MISSING_TABLE} and "no such table" not in str(error.orig):
            raise
        raise ConfigurationError(
            f"table {table.fullname!r} of granite-storage is missing in the database: make it with "
            "metadata.create_all(engine), or with an Alembic migration (alembic revision --autogenerate)"
            + (f"; {otherwise}" if otherwise else "")
        ) from error


def _in(outbox: Table) -> AbstractContextManager[None]:
    return told_if_missing(
        outbox,
        "or do without one: MetaData(info=metadata_options(outbox=None)). If it is there for one transaction only, by "
        "a search_path that this transaction sets: such settings belong on the engine",
    )
