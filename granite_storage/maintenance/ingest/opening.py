"""What is looked at before a conversion begins: everything that could be wrong with all rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from sqlalchemy import MetaData, inspect, select

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.ingest.fingerprints import prepare
from granite_storage.maintenance.ingest.keyed_table import KeyedTable
from granite_storage.maintenance.ingest.kinds import Kind, kind_for
from granite_storage.maintenance.ingest.working import refuse_autocommit
from granite_storage.orm.options import metadata_options
from granite_storage.orm.outbox import add_outbox
from granite_storage.orm.references import ref_columns
from granite_storage.orm.registry import add_registry

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.maintenance.ingest.working import Work
    from granite_storage.manager import StorageManager
    from granite_storage.orm.type import StoredObjectRefType

__all__ = ["kind_of", "opened", "outbox_in", "policies_of", "registry_in"]


def kind_of(connection: Connection, manager: StorageManager, conversion: Conversion) -> Kind:
    """What reads and writes the old column.

    :raises StorageError: if there is no such table, column, policy or backend, or no primary key.
    """
    manager.get_backend_for_policy(manager.get_policy(conversion.policy))
    table = KeyedTable.reflect(connection, conversion.table, conversion.schema)
    for name in (conversion.old, conversion.new, conversion.filename_column, conversion.content_type_column):
        if name is not None:
            table.column(name)
    prepare(connection)
    return kind_for(table, conversion)


def opened(work: Work, manager: StorageManager, conversion: Conversion) -> tuple[Kind, Table | None]:
    """What reads the old column on the way up, and the database's registry, if it has one.

    :raises StorageError: if the conversion is none that could be.
    """
    refuse_autocommit(
        work.connection, conversion, "on the way up rows name no upload that has become too old meanwhile"
    )
    kind = kind_of(work.connection, manager, conversion)
    registry = registry_in(work.connection, conversion)
    _check_field(work.connection, manager, conversion, registry)
    return kind, registry


def registry_in(connection: Connection, conversion: Conversion) -> Table | None:
    """The registry of the database, or that of the table's own schema, as a tenant has it; None if there is none."""
    inspector = inspect(connection)
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    for schema in (conversion.storage_schema, conversion.schema):
        if inspector.has_table(conversion.registry, translated.get(schema, schema)):
            info = metadata_options(registry=conversion.registry, outbox=None)
            return add_registry(MetaData(schema=schema, info=info))
    return None


def outbox_in(connection: Connection, conversion: Conversion) -> Table:
    """The outbox of the database.

    :raises ConfigurationError: if it has none, saying how to make it.
    """
    name = conversion.outbox
    if name is None or not inspect(connection).has_table(name, conversion.storage_schema):
        raise ConfigurationError(
            f"{conversion.target}: on the way back its objects go to the outbox, {name!r}, which this database has "
            "not; make it first with op.create_storage_outbox()"
        )
    outbox = add_outbox(MetaData(schema=conversion.storage_schema, info=metadata_options(outbox=name)))
    assert outbox is not None
    return outbox


def policies_of(connection: Connection, conversion: Conversion, registry: Table) -> list[str | None]:
    """The policies under which the registry lists the file column; none if it does not."""
    schemas = {conversion.schema or ""}
    if conversion.schema in (None, connection.dialect.default_schema_name):  # which may be noted with its name
        schemas |= {"", connection.dialect.default_schema_name or ""}
    fields = registry.c
    listed = select(fields.policy).where(
        fields.schema_name.in_(sorted(schemas)),
        fields.table_name == conversion.table,
        fields.column_name == conversion.new,
    )
    return list(connection.scalars(listed))


def _check_field(
    connection: Connection, manager: StorageManager, conversion: Conversion, registry: Table | None
) -> None:
    """Whether the new column is a file field of this policy: where nobody knows it, a sweep would take its files.

    The registry knows it, as of a migration that made it, or the models do that the manager is attached to.

    :raises ConfigurationError: if neither does, or it is one of another policy.
    """
    listed = [] if registry is None else policies_of(connection, conversion, registry)
    fields = dict(_fields_at(connection, manager, conversion.schema))
    if not listed:
        if (conversion.table, conversion.new) not in fields:
            known = ", ".join(repr(column) for table, column in sorted(fields) if table == conversion.table)
            raise ConfigurationError(
                f"{conversion.target} is no file field: no model that the manager is attached to has it as a "
                "FileColumn, and no migration of this database made it (op.add_file_column()), so that a sweep would "
                f"take its files for left over ones; {known or 'none'} is known of this table"
            )
        listed = [fields[conversion.table, conversion.new]]
    if conversion.policy not in listed and listed != [None]:
        raise ConfigurationError(
            f"{conversion.target} is a file field of policy {listed[0]!r} in this database, and its files would be "
            f"stored under policy {conversion.policy!r}"
        )


def _fields_at(
    connection: Connection, manager: StorageManager, schema: str | None
) -> Iterator[tuple[tuple[str, str], str | None]]:
    """Table, column and policy of the file fields that the manager's models have in a schema of this database."""
    default = connection.dialect.default_schema_name
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    for metadata, engine in manager.attached.items():
        if engine is not None and engine.pool is not connection.engine.pool:
            continue
        schemas = translated or (engine and engine.get_execution_options().get("schema_translate_map")) or {}
        for column in ref_columns(metadata):
            there = schemas.get(column.table.schema, column.table.schema)
            if (there or default) == (schema or default):
                yield (column.table.name, column.name), cast("StoredObjectRefType", column.type).policy
