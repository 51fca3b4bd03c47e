"""File fields that a database has and that nobody asks: their rows may name what would seem to be nobody's.

As where the program that collects does not import all models, knows a table by its former name, or asks for one
tenant's schema of many. The registry notes every file field that was made by ``create_all`` or a migration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select

from granite_storage.orm.outbox import told_if_missing
from granite_storage.orm.references import ref_columns
from granite_storage.orm.registry import registry_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from granite_storage.orm.sites import Site

__all__ = ["unasked_fields"]

_Field = tuple[str, str, str]
"""Schema (empty for the default one), table and column."""

_TOLD = 5


def unasked_fields(sites: Collection[Site]) -> Iterator[str]:
    """Why nothing may be deleted by listing, for each database that notes file fields which are not asked.

    :raises ConfigurationError: if a registry is missing, saying how to make it.
    """
    asked: set[_Field] = set()
    gone: set[_Field] = set()
    noted: dict[str, set[_Field]] = {}
    read: set[tuple[object, ...]] = set()  # a registry that many schemas share is read once
    for site in sites:
        registry, schemas = registry_of(site.metadata), dict(site.schemas)
        with site.desk() as desk:
            default = desk.connection.dialect.default_schema_name  # known once it is connected
            for column in ref_columns(site.metadata):
                schema = schemas.get(column.table.schema, column.table.schema)
                asked.add(("" if schema in (None, default) else str(schema), column.table.name, column.name))
            if registry is None:
                continue
            place = site.pool, schemas.get(registry.schema, registry.schema), registry.name
            if place in read:
                continue
            read.add(place)
            here = noted.setdefault(repr(site.engine.url.database), set())
            for field, there in _fields(desk.connection, registry, asked):
                here.add(field)
                if not there:
                    gone.add(field)
    asked -= gone  # a table that is not there gave no answer
    for database, fields in noted.items():
        names = sorted(".".join(filter(None, field)) for field in fields - asked)
        if names:
            yield (
                f"database {database} has {len(names)} file field{'s' * (len(names) > 1)} that nobody asked, "
                f"{', '.join(names[:_TOLD])}{', ...' * (len(names) > _TOLD)}, whose rows may name any object: import "
                "their models before manager.attach() is called, and give the engines of all schemas. One whose table "
                "was renamed or dropped by hand is followed by a migration (alembic revision --autogenerate)"
            )


def _fields(connection: Connection, registry: Table, asked: Collection[_Field]) -> Iterator[tuple[_Field, bool]]:
    """The fields that the registry notes, but for those whose column is gone; and whether their table is there.

    :param asked: those whose columns need no look.
    """
    names = registry.c
    default = connection.dialect.default_schema_name
    statement = select(names.schema_name, names.table_name, names.column_name).where(names.table_name != "")
    with told_if_missing(registry):
        rows = connection.execute(statement).all()
    inspector = inspect(connection)
    there: dict[tuple[str, str], bool] = {}
    columns: dict[tuple[str, str], set[str]] = {}
    for noted, table, column in rows:
        place = "" if noted == default else noted, table
        field = *place, column
        if place not in there:
            there[place] = inspector.has_table(table, place[0] or None)
        if not there[place]:
            yield field, False
            continue
        if field not in asked and place not in columns:
            columns[place] = {one["name"] for one in inspector.get_columns(table, place[0] or None)}
        if field in asked or column in columns[place]:
            yield field, True
