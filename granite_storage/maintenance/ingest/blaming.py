"""What is to blame where a database refuses a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

__all__ = ["is_of_a_row"]

_OF_LOCKS = (1205, 1213, 1305)  # MySQL's: a timeout, a deadlock, and that its savepoint is gone with the transaction


def is_of_a_row(connection: Connection, error: DBAPIError) -> bool:
    """Whether a row may be to blame for an error, rather than the connection, the disk, or the locks of others."""
    if error.connection_invalidated or not isinstance(error, OperationalError):
        return not error.connection_invalidated
    numbers = getattr(error.orig, "args", ())[:1]  # MySQL says most with this error, what triggers raise, too
    return connection.dialect.name in ("mysql", "mariadb") and not {*numbers} & {*_OF_LOCKS}
