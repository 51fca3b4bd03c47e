"""What a database calls an error: the numbers that tell why it refuses a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

__all__ = ["codes_of", "lacks_right"]

_RIGHTS = {"25006", "42501", 1044, 1142, 1143, 1227, 1290, 1792}  # SQLSTATEs of PostgreSQL, and MySQL's numbers
_SQLITE_READONLY = 8


def codes_of(error: DBAPIError) -> set[Any]:
    """An error's SQLSTATE, and MySQL's own number, as far as the driver tells them."""
    cause: Any = error.orig
    return {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), *getattr(cause, "args", ())[:1]}


def lacks_right(error: DBAPIError) -> bool:
    """Whether the role, or the connection, may not do it: at all, or to this row, as a policy of PostgreSQL has it."""
    if error.connection_invalidated:
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    return bool(codes_of(error) & _RIGHTS) or (code is not None and code & 0xFF == _SQLITE_READONLY)
