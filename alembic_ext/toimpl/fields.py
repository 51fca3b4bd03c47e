"""The registry's rows, and the objects of a column that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import Operations
from sqlalchemy import ColumnElement, TableClause, column, delete, insert, null, select, table, update

from alembic_ext.operations.fields import RebindFileColumnOp, RegisterFileColumnOp, UnregisterFileColumnOp
from alembic_ext.toimpl.checks import check_columns
from alembic_ext.toimpl.conversions import note_made
from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from alembic_ext.operations.base import FileFieldOp

__all__ = ["forget", "free", "note", "set_trigger_version"]


def note(place: Place, op: FileFieldOp, table_name: str, column_name: str, policy: str, version: int | None) -> None:
    """Note a file field in the registry, whatever is there about it."""
    note_made(place, op.schema, table_name, column_name)
    if place.has_table(op.registry, op.storage_schema) is False:
        return  # a database that was made without one; autogenerate finds what is missing
    forget(place, op, table_name, column_name)
    values: dict[str, Any] = {
        "schema_name": op.schema or "",
        "table_name": table_name,
        "column_name": column_name,
        "policy": policy,
        "trigger_version": version,
    }
    literals = {name: null() if value is None else place.literal(value) for name, value in values.items()}
    place.execute(insert(_registry(op)).values(**literals))


def forget(place: Place, op: FileFieldOp, table_name: str, column_name: str) -> None:
    """Remove what the registry has about a file field."""
    if place.has_table(op.registry, op.storage_schema) is not False:
        registry = _registry(op)
        place.execute(delete(registry).where(*_this(place, registry, op, table_name, column_name)))


def set_trigger_version(place: Place, op: FileFieldOp, table_name: str, column_name: str, version: int | None) -> None:
    """Note which version of its triggers a file field has, if it is in the registry."""
    if place.has_table(op.registry, op.storage_schema) is not False:
        registry = _registry(op)
        value = null() if version is None else place.literal(version)
        this = _this(place, registry, op, table_name, column_name)
        place.execute(update(registry).where(*this).values(trigger_version=value))


def free(place: Place, op: FileFieldOp, table_name: str, column_name: str) -> None:
    """Write the objects of a column to the outbox.

    :raises ConfigurationError: if there is none.
    """
    from alembic_ext.toimpl.triggers import trigger_in
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.orm.triggers import definitions_for

    definitions = definitions_for(place.dialect.name)
    if op.outbox is None or definitions is None or place.has_table(op.outbox, op.storage_schema) is False:
        raise ConfigurationError(
            f"{table_name}.{column_name}: objects='free' writes its objects to the outbox, {op.outbox!r}, which this "
            "database has not; make it first with op.create_storage_outbox(), or leave the objects in their store with "
            "objects='keep'"
        )
    place.run(*definitions.free(place.dialect, trigger_in(place, op, table_name, column_name)))


def _registry(op: FileFieldOp) -> TableClause:
    names = ("schema_name", "table_name", "column_name", "policy", "trigger_version")
    return table(op.registry, *(column(name) for name in names), schema=op.storage_schema)


def _this(
    place: Place, registry: TableClause, op: FileFieldOp, table_name: str, column_name: str
) -> list[ColumnElement[bool]]:
    schemas = [op.schema or ""]
    if place.is_default(op.schema):  # which may be noted with its name, and without
        schemas = list(dict.fromkeys(["", op.schema or "", place.dialect.default_schema_name or ""]))
    names = {"table_name": table_name, "column_name": column_name}
    return [
        registry.c.schema_name.in_([place.literal(schema) for schema in schemas]),
        *(registry.c[name] == place.literal(value) for name, value in names.items()),
    ]


@Operations.implementation_for(RegisterFileColumnOp)
def _register(operations: Operations, op: RegisterFileColumnOp) -> None:
    if op.policy is not None:
        note(Place(operations), op, op.table_name, op.column_name, op.policy, None)


@Operations.implementation_for(UnregisterFileColumnOp)
def _unregister(operations: Operations, op: UnregisterFileColumnOp) -> None:
    place = Place(operations)
    if op.objects == "free":
        check_columns(place, op.table_name, [op.column_name], op.schema)
        free(place, op, op.table_name, op.column_name)
    forget(place, op, op.table_name, op.column_name)


@Operations.implementation_for(RebindFileColumnOp)
def _rebind(operations: Operations, op: RebindFileColumnOp) -> None:
    place = Place(operations)
    check_columns(place, op.table_name, [op.column_name], op.schema)
    if place.has_table(op.registry, op.storage_schema) is False:
        return
    registry = _registry(op)
    this = _this(place, registry, op, op.table_name, op.column_name)
    if place.connection is not None and place.connection.scalar(select(registry.c.column_name).where(*this)) is None:
        note(place, op, op.table_name, op.column_name, op.to_policy, None)  # the registry did not know it
    place.execute(update(registry).where(*this).values(policy=place.literal(op.to_policy)))
