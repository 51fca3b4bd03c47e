"""The registry: the table of declared file fields, with this database's id and the watermark of its sweeps.

One row a file field; one more, with no table and no column, is the database's own: it holds a random id, by which two
databases on one store are told apart, and how far the sweeps have come.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Integer, String, Table, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.database_time import as_utc, instant_type
from granite_storage.orm.options import options_of
from granite_storage.orm.outbox import exact, told_if_missing

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, MetaData

__all__ = [
    "add_registry",
    "database_id",
    "forget_table",
    "known_database_id",
    "new_database_id",
    "note_field",
    "read_registry",
    "registry_of",
    "set_watermark",
    "watermark",
]

_KEY = "granite_storage.registry"


def add_registry(metadata: MetaData) -> Table:
    """Let the registry join a MetaData that has file fields; once, however often it is called.

    :raises ConfigurationError: if the application has another table of that name.
    """
    known = registry_of(metadata)
    if known is not None:
        return known
    name = options_of(metadata).registry
    if (f"{metadata.schema}.{name}" if metadata.schema else name) in metadata.tables:
        raise ConfigurationError(
            f"the MetaData has a table {name!r} of its own, which is to be the registry of its file fields; "
            "give the registry another name: MetaData(info=metadata_options(registry=...))"
        )
    table = Table(
        name,
        metadata,
        Column("schema_name", exact(64), primary_key=True),
        Column("table_name", exact(64), primary_key=True),
        Column("column_name", exact(64), primary_key=True),
        Column("policy", exact(255)),
        Column("trigger_version", Integer()),
        Column("database_id", String(36)),
        Column("watermark", instant_type()),
        info={_KEY: True},
        comment="granite-storage: the file fields of this database, and its own id",
    )
    event.listen(table, "after_create", _make_id)
    return table


def registry_of(metadata: MetaData) -> Table | None:
    """The registry of a MetaData, or None if it has no file field."""
    name = options_of(metadata).registry
    table = metadata.tables.get(f"{metadata.schema}.{name}" if metadata.schema else name)
    return table if table is not None and table.info.get(_KEY) else None


def known_database_id(connection: Connection, registry: Table) -> str | None:
    """The random id of a database; None if it has none yet."""
    with told_if_missing(registry):
        found: str | None = connection.scalar(select(registry.c.database_id).where(_own(registry)))
    return found


def read_registry(connection: Connection, registry: Table) -> tuple[str | None, list[tuple[str, str, str]]]:
    """The database's random id, None if it has none yet; and schema, table and column of each field that is noted."""
    names = registry.c
    statement = select(names.schema_name, names.table_name, names.column_name, names.database_id)
    with told_if_missing(registry):
        rows = connection.execute(statement).all()
    number, fields = None, []
    for schema, table, column, own in rows:
        if table:
            fields.append((schema, table, column))
        else:
            number = own
    return number, fields


def database_id(connection: Connection, registry: Table) -> str:
    """The random id of a database, made and committed on first use; the connection is in no transaction then."""
    found = known_database_id(connection, registry)
    connection.rollback()  # SQLite would not let two that have read write
    if found is not None:
        return found
    try:
        _make_id(registry, connection)
        connection.commit()
    except IntegrityError:  # somebody else made it meanwhile
        connection.rollback()
    made = connection.scalar(select(registry.c.database_id).where(_own(registry)))
    connection.rollback()
    return str(made)


def _make_id(registry: Any, connection: Connection, **_: Any) -> None:
    """A database has an id as soon as it has the table; a script that is written for several databases has none."""
    if isinstance(connection, Connection):
        connection.execute(insert(registry).values({**_OWN, "database_id": str(uuid.uuid4())}))


def new_database_id(connection: Connection, registry: Table) -> str:
    """Give a database another random id, as a copy needs that is to go its own way; committed."""
    database_id(connection, registry)
    made = str(uuid.uuid4())
    connection.execute(update(registry).where(_own(registry)).values(database_id=made))
    connection.commit()
    return made


def watermark(connection: Connection, registry: Table) -> datetime | None:
    """The instant (UTC) before which all uploads were judged by a sweep; None if there was none yet."""
    found: datetime | None = connection.scalar(select(registry.c.watermark).where(_own(registry)))
    return None if found is None else as_utc(found)


def set_watermark(connection: Connection, registry: Table, instant: datetime) -> None:
    """Note how far a sweep has come; it never goes back. Not committed."""
    instant = instant.astimezone(UTC)
    if connection.dialect.name != "postgresql":  # which has a time zone to store
        instant = instant.replace(tzinfo=None)
    later = registry.c.watermark.is_(None) | (registry.c.watermark < instant)
    connection.execute(update(registry).where(_own(registry), later).values(watermark=instant))


def note_field(
    connection: Connection,
    registry: Table,
    field: tuple[str | None, str, str],
    policy: str | None,
    version: int | None,
) -> None:
    """Note that a file field is declared, its policy, and which version of its triggers it has, None for none.

    Not committed.

    :param field: its schema, table and column, by their names in the database.
    """
    columns = registry.c
    schema, table, column = field[0] or "", field[1], field[2]
    this = (columns.schema_name == schema) & (columns.table_name == table) & (columns.column_name == column)
    if connection.scalar(select(columns.column_name).where(this)) is not None:
        connection.execute(update(registry).where(this).values(policy=policy, trigger_version=version))
    else:
        names = {"schema_name": schema, "table_name": table, "column_name": column}
        connection.execute(insert(registry).values(**names, policy=policy, trigger_version=version))


def forget_table(connection: Connection, registry: Table, schema: str | None, table: str) -> None:
    """Remove what is noted about the file fields of a table that is dropped. Not committed."""
    columns = registry.c
    connection.execute(delete(registry).where(columns.schema_name == (schema or ""), columns.table_name == table))


_OWN = {"schema_name": "", "table_name": "", "column_name": ""}


def _own(registry: Table) -> ColumnElement[bool]:
    return (registry.c.schema_name == "") & (registry.c.table_name == "") & (registry.c.column_name == "")
