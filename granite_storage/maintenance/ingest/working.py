"""A connection that a conversion works on, and how it commits there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.sites import own_connection

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.conversion import Conversion

__all__ = ["Work", "refuse_autocommit", "working"]


@dataclass(frozen=True, slots=True)
class Work:
    """A connection, and what commits what was done on it.

    :param commit: commits, and lets the next statement begin a transaction; Alembic's own is committed another way.
    """

    connection: Connection
    commit: Callable[[], object]


@contextmanager
def working(bind: Connection | Engine, commit: Callable[[], object] | None) -> Iterator[Work]:
    """Work on a connection that was given, or on one of our own.

    :raises ConfigurationError: if the connection is in a transaction, which would be committed with the first batch.
    """
    if isinstance(bind, Engine):
        with own_connection(bind) as connection:
            yield Work(connection, connection.commit)
        return
    if commit is None:
        if bind.in_transaction():
            raise ConfigurationError(
                "a conversion commits batch by batch, and this connection is in a transaction that somebody else "
                "began: commit it first, or give the engine"
            )
        commit = bind.commit
    yield Work(bind, commit)


def refuse_autocommit(connection: Connection, conversion: Conversion, why: str) -> None:
    """Refuse a connection whose statements cannot be undone.

    :param why: what needs a transaction.
    :raises ConfigurationError: saying so.
    """
    level = connection.get_execution_options().get("isolation_level") or connection.get_isolation_level()
    if level == "AUTOCOMMIT":
        raise ConfigurationError(
            f"{conversion.target}: {why}, and this connection commits each statement by itself (AUTOCOMMIT): give one "
            "that does not"
        )
