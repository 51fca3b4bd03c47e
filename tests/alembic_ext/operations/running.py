"""Operations as a script calls them, run online or printed in ``--sql`` mode and then run, on tables made by models."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, Integer, MetaData, String, select, text
from sqlalchemy.orm import DeclarativeBase, mapped_column

from granite_storage import FileColumn
from granite_storage.orm.registry import registry_of
from granite_storage.orm.triggers import definitions_for, trigger_of
from granite_storage.orm.triggers.statement import statement


def models(metadata: MetaData | None = None, /, *, table: str = "document", **columns: Any) -> Any:
    """One table with file fields: their names, and policy or column."""

    class Base(DeclarativeBase):
        pass

    if metadata is not None:
        Base.metadata = metadata
    body = {"id": mapped_column(Integer, primary_key=True), "title": mapped_column(String(50))}
    files = {name: FileColumn(one) if isinstance(one, str) else one for name, one in columns.items()}
    Base.Document = type("Document", (Base,), {"__tablename__": table, **body, **files})
    return Base


def ref(location: str) -> dict[str, Any]:
    """A ref as a column holds it."""
    return {
        "storage_key": "documents", "backend": "memory", "location": location, "size": 3, "checksum": "sha256:0",
        "content_type": None, "original_filename": "it's 100% :sure.txt", "created_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """Calls operations on an engine's database."""

    engine: Engine
    printed: bool

    def __call__(self, *calls: Callable[[Any], Any]) -> None:
        """Call each with ``op``."""
        if not self.printed:
            with self.engine.begin() as connection:
                op = Operations(MigrationContext.configure(connection))
                for call in calls:
                    call(op)
            return
        buffer = io.StringIO()
        dialect = self.engine.url.get_dialect()()
        op = Operations(MigrationContext.configure(dialect=dialect, opts={"as_sql": True, "output_buffer": buffer}))
        for call in calls:
            call(op)
        with self.engine.begin() as connection:
            for sql in buffer.getvalue().split(";\n\n"):
                if sql.strip():
                    connection.execute(statement(sql))


def add_rows(engine: Engine, table: Any, **files: str) -> None:
    """A row for each location that a column is given (several are parted by spaces)."""
    with engine.begin() as connection:
        for column, locations in files.items():
            for location in locations.split():
                quoted = engine.dialect.identifier_preparer.format_table(table)
                name = engine.dialect.identifier_preparer.quote(column)
                number = connection.execute(text(f"SELECT count(*) FROM {quoted}")).scalar_one()
                connection.execute(
                    text(f"INSERT INTO {quoted} (id, title, {name}) VALUES (:id, 'x', :ref)"),
                    {"id": number + 1, "ref": json.dumps(ref(location))},
                )


def outbox(engine: Engine, name: str = "granite_storage_outbox") -> list[tuple[Any, ...]]:
    """What the outbox says: location, storage key, size and source."""
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT location, storage_key, size, source FROM {name}"))
        return sorted(tuple(row) for row in rows)


def noted(engine: Engine, Base: Any) -> set[tuple[Any, ...]]:
    """The rows of the registry."""
    columns = registry_of(Base.metadata).c
    fields = select(columns.table_name, columns.column_name, columns.policy, columns.trigger_version)
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(fields.where(columns.table_name != ""))}


def stand(engine: Engine, column: Any) -> bool:
    """Whether a column's triggers stand."""
    with engine.connect() as connection:
        return definitions_for(engine.dialect.name).standing(connection, trigger_of(connection, column))
