"""How old an upload must be before a sweep may take it for left over; and which databases may be asked at all."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from granite_storage.exceptions import ReplicaError
from granite_storage.maintenance.wording import url_part
from granite_storage.orm.database_time import as_utc, database_time
from granite_storage.orm.greenlets import off_loop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from granite_storage.aio import WorkerPool
    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site

__all__ = ["PreparedTransactionsError", "earliest_now", "horizon", "refuse_replicas"]


_LOOKS = 50  # how often those that are prepared are looked at again, before they are taken for forgotten
_PAUSE = 0.1  # seconds between two looks
_OFF = ("0", "OFF")  # a number, or from MariaDB 12 on a word


class PreparedTransactionsError(Exception):
    """Transactions are prepared, and the database does not say since when: nobody can tell what is left over."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} prepared transactions wait for their second phase, and may yet commit rows that name old "
            "uploads, so that nobody can tell what is left over; commit or roll them back (XA RECOVER lists them)"
        )


def refuse_replicas(sites: Iterable[Site]) -> None:
    """Refuse databases that lag behind another: a row that is committed there may not have arrived here.

    :raises ReplicaError: naming the database.
    """
    for site in sites:
        with site.desk() as desk:
            if _is_replica(desk.connection):
                url = site.engine.url  # its query may hold a password
                raise ReplicaError(
                    f"database {url_part(url.database, url.host)} at {url_part(url.host, url.database)} is a replica "
                    "(in recovery, or with read_only on): rows that are committed on its primary may be missing, and "
                    "their objects would seem left over; give the engine of the primary"
                )


def horizon(manager: StorageManager, sites: Iterable[Site], before: datetime) -> datetime:
    """Uploads that are younger than this (UTC) are left alone.

    :param before: the instant that the grace period of this run tells. Uploads of a prepared transaction were younger
        than the manager's own when it was prepared: no older transaction can be.
    :raises PreparedTransactionsError: if nobody can tell, saying so.
    """
    prepared = oldest_prepared(manager.pool, sites)
    return before if prepared is None else min(before, prepared - manager.grace)


def earliest_now(sites: Iterable[Site]) -> datetime:
    """Now (UTC) by the clock here, or by that of a database which is behind it.

    If the clock here is ahead, nothing may seem old for that. SQLite's is the one here.
    """
    now = datetime.now(UTC)
    for site in {site.pool: site for site in sites if site.engine.dialect.name != "sqlite"}.values():
        with site.desk() as desk:
            there: datetime = desk.connection.execute(select(database_time())).scalar_one()
            now = min(now, as_utc(there))
    return now


def oldest_prepared(pool: WorkerPool, sites: Iterable[Site]) -> datetime | None:
    """Since when (UTC) the oldest transaction of a two-phase commit waits for its second phase; None if none does.

    Its rows are seen by nobody, and may yet be committed, however old its uploads are.

    :raises PreparedTransactionsError: if there are some, and the database does not tell since when (MariaDB, MySQL).
    """
    oldest: datetime | None = None
    for site in sites:
        with site.desk() as desk:
            since = _prepared_since(pool, desk.connection)
            if since is not None and (oldest is None or since < oldest):
                oldest = since
    return oldest


def _is_replica(connection: Connection) -> bool:
    name = connection.dialect.name
    if name == "postgresql":
        return bool(connection.scalar(text("SELECT pg_is_in_recovery()")))
    if name in ("mysql", "mariadb"):
        return str(connection.scalar(text("SELECT @@read_only"))).upper() not in _OFF
    return False


def _prepared_since(pool: WorkerPool, connection: Connection) -> datetime | None:
    name = connection.dialect.name
    if name == "postgresql":
        found = connection.scalar(
            text("SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()")
        )
        return None if found is None else found.astimezone(UTC)
    if name in ("mysql", "mariadb"):
        _await_prepared(pool, connection)
    return None


def _await_prepared(pool: WorkerPool, connection: Connection) -> None:
    """Wait a moment for the second phase of what is prepared now; any that comes later has no old upload yet."""
    waiting = _prepared_ids(connection)
    for _ in range(_LOOKS):
        if not waiting:
            return
        off_loop(pool, partial(sleep, _PAUSE))
        waiting &= _prepared_ids(connection)
    if waiting:
        raise PreparedTransactionsError(len(waiting))


def _prepared_ids(connection: Connection) -> set[tuple[Any, ...]]:
    """The prepared transactions of the whole server: it does not tell of which database they are."""
    try:
        return {tuple(row) for row in connection.execute(text("XA RECOVER"))}
    except DBAPIError:  # MySQL 8 shows them only to who has XA_RECOVER_ADMIN
        return set()
    finally:
        connection.rollback()
