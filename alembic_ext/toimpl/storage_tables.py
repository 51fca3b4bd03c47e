"""The outbox and the registry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alembic.operations import Operations
from sqlalchemy import MetaData, func, inspect, select, table

from alembic_ext.operations.storage_tables import (
    CreateStorageOutboxOp,
    CreateStorageRegistryOp,
    DropStorageOutboxOp,
    DropStorageRegistryOp,
)
from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from sqlalchemy import Table

log = logging.getLogger(__name__)


@Operations.implementation_for(CreateStorageOutboxOp)
def _create_outbox(operations: Operations, op: CreateStorageOutboxOp) -> Any:
    from granite_storage.orm.options import metadata_options
    from granite_storage.orm.outbox import add_outbox

    place = Place(operations)
    if op.columns:
        made = op.to_table(operations.migration_context)
    else:
        own = add_outbox(MetaData(schema=op.schema, info=metadata_options(outbox=op.table_name)))
        assert own is not None
        made = own
    connection = place.connection
    if connection is not None and place.has_table(op.table_name, op.schema):  # a drop left it
        there = {index["name"] for index in inspect(connection).get_indexes(op.table_name, op.schema)}
        for index in sorted(made.indexes, key=lambda index: str(index.name)):
            if index.name not in there:
                operations.impl.create_index(index)
    else:
        operations.impl.create_table(made)
    return made


@Operations.implementation_for(DropStorageOutboxOp)
def _drop_outbox(operations: Operations, op: DropStorageOutboxOp) -> None:
    from granite_storage.orm.triggers import definitions_for
    from granite_storage.orm.triggers.declared import searched_schema

    place = Place(operations)
    connection, schema, definitions = place.connection, op.schema, definitions_for(place.dialect.name)
    if definitions is not None:
        if connection is not None:
            schema = searched_schema(connection, op.table_name, schema)
        place.run(*definitions.drop_function(place.dialect, op.table_name, schema))
    if connection is not None:
        left = connection.scalar(select(func.count()).select_from(table(op.table_name, schema=op.schema)))
        if left:
            log.warning(
                "Kept table %r: it has %s rows, for objects that nothing names any more and that no sweep has deleted",
                op.table_name,
                left,
            )
            return
    operations.impl.drop_table(op.to_table(operations.migration_context))


@Operations.implementation_for(CreateStorageRegistryOp)
def _create_registry(operations: Operations, op: CreateStorageRegistryOp) -> Any:
    made = _registry(op.table_name, op.schema)
    operations.impl.create_table(made)
    return made


@Operations.implementation_for(DropStorageRegistryOp)
def _drop_registry(operations: Operations, op: DropStorageRegistryOp) -> None:
    operations.impl.drop_table(_registry(op.table_name, op.schema))


def _registry(name: str, schema: str | None) -> Table:
    from granite_storage.orm.options import metadata_options
    from granite_storage.orm.registry import add_registry

    return add_registry(MetaData(schema=schema, info=metadata_options(registry=name)))
