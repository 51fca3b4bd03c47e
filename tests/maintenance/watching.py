"""What databases are asked and how they answer; and a transaction that waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

__all__ = ["asked", "assert_served_by_index", "waiting_transaction"]


@contextmanager
def asked(engine: Engine, wanted: Callable[[str], bool]) -> Iterator[list[tuple[str, Any]]]:
    """The wanted statements that are executed meanwhile, each with its parameters."""
    statements: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if wanted(statement):
            statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def assert_served_by_index(engine: Engine, statements: Sequence[tuple[str, Any]]) -> None:
    """Each of some statements, of which there must be one at least, is served by a location index of ``document``."""
    assert statements
    for statement, parameters in statements:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET enable_seqscan = off")  # a few rows fit into one page
            explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
            plan = str(connection.exec_driver_sql(explain + statement, parameters).all())
        assert "ix_document__" in plan and "Seq Scan" not in plan, plan


@contextmanager
def waiting_transaction(engine: Engine) -> Iterator[None]:
    """MariaDB's: prepared, and nobody can tell since when. Other test workers' sweeps see it, too, and wait longer."""
    with engine.connect() as connection:
        connection.exec_driver_sql("XA START 'waiting'")
        connection.exec_driver_sql("INSERT INTO folder (id) VALUES (7)")
        connection.exec_driver_sql("XA END 'waiting'")
        connection.exec_driver_sql("XA PREPARE 'waiting'")
        try:
            yield
        finally:
            connection.exec_driver_sql("XA ROLLBACK 'waiting'")
