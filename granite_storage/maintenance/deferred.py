"""Constraints that a database would check at the COMMIT, checked before it: what fails by then can still be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["check_deferred"]


def check_deferred(connection: Connection) -> None:
    """Have the database check now what was deferred; only PostgreSQL defers what a change of a file could break.

    :raises DBAPIError: if a constraint, or a constraint trigger, is against what the transaction did.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
