"""What is to blame where a database refuses a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from granite_storage.orm.refusals import RIGHTS, lacks_right, number_of, state_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

__all__ = ["is_of_a_row"]

_OF_OTHER_CLASSES = ("08", "25", "28", "40", "42", "53", "55", "57", "58", "F0", "XX")
"""PostgreSQL's classes: connections, transactions, rights, statements that are wrong for every row, resources, locks,
operators, the system. Triggers may raise what they like."""
_OF_OTHERS = {
    *(1205, 1206, 1213, 1305),  # locks of others, and that a savepoint is gone with the transaction
    *(1317, 1969, 3024, 1053),  # it took too long, or the server ends
    *(1020, 1180, 1021, 1028, 1030, 1114),  # the storage
    *(1290, 1792),  # nothing may be written
}
"""MySQL's and MariaDB's numbers. They say most with the same kind of error, what triggers raise, too."""


def is_of_a_row(connection: Connection, error: DBAPIError) -> bool:
    """Whether a row may be to blame for an error, rather than the connection, the disk, a right, or others' locks."""
    if error.connection_invalidated:
        return False
    if isinstance(error, (DataError, IntegrityError)):
        return True
    if connection.dialect.name == "postgresql":
        return lacks_right(error) or (state_of(error) or "XX")[:2] not in _OF_OTHER_CLASSES
    mysql = connection.dialect.name in ("mysql", "mariadb") and isinstance(error, OperationalError)
    return mysql and number_of(error) not in {*_OF_OTHERS, *RIGHTS}
