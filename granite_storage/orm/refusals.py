"""What a database calls an error: the numbers that tell why it refuses a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

__all__ = ["RIGHTS", "is_read_only", "lacks_right", "number_of", "state_of"]

RIGHTS = {"42501", 1044, 1045, 1142, 1143, 1227}
"""PostgreSQL's SQLSTATE, which policies on rows say, too, and MySQL's numbers."""

_READ_ONLY = {"25006", 1290, 1792}
_SQLITE_READONLY = 8


def state_of(error: DBAPIError) -> str | None:
    """An error's SQLSTATE, where the driver tells it."""
    cause: Any = error.orig
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def number_of(error: DBAPIError) -> int | None:
    """The number that MySQL and MariaDB give an error; None of other databases' errors."""
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def is_read_only(error: DBAPIError) -> bool:
    """Whether nothing at all may be written, whatever it is."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return bool({state_of(error), number_of(error)} & _READ_ONLY) or (
        code is not None and code & 0xFF == _SQLITE_READONLY
    )


def lacks_right(error: DBAPIError) -> bool:
    """Whether the role may not do it: at all, or to this row, as a policy of PostgreSQL has it."""
    return bool({state_of(error), number_of(error)} & RIGHTS)
