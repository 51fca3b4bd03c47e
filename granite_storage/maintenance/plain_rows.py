"""Rows by the thousand, for what reads millions of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Executable

__all__ = ["plain_rows"]

_FETCHED = 10_000


def plain_rows(
    connection: Connection, statement: Executable, parameters: Mapping[str, Any] | None = None
) -> Generator[Sequence[Sequence[Any]]]:
    """The rows of a statement whose columns need nothing done to what the driver gives, a sequence of many at once.

    From SQLite as tuples, as they come: making SQLAlchemy's rows of them would take as long as reading them.
    """
    found: Any
    if connection.dialect.driver == "pysqlite":
        with connection.execute(statement, parameters) as found:
            while rows := found.cursor.fetchmany(_FETCHED):
                yield rows
    else:
        with connection.execute(statement.execution_options(yield_per=_FETCHED), parameters) as found:
            yield from found.partitions()
