"""The library's own two tables: ``op.create_storage_outbox``, ``create_storage_registry`` and how they are dropped.

Autogenerate writes the outbox with its columns, so that a script makes the same table years later, and the registry as
any other table; without columns a script gets the tables of the version of the library that runs it.
"""

from __future__ import annotations

from typing import Any

from alembic.operations import Operations, ops

from alembic_ext.operations.base import OUTBOX, REGISTRY

__all__ = ["CreateStorageOutboxOp", "CreateStorageRegistryOp", "DropStorageOutboxOp", "DropStorageRegistryOp"]


@Operations.register_operation("create_storage_outbox", "run_outbox")
class CreateStorageOutboxOp(ops.CreateTableOp):
    """Make the outbox. One that a drop left, since it had rows, is taken again: ``op.create_storage_outbox()``."""

    @classmethod
    def run_outbox(cls, operations: Operations, *args: Any, schema: str | None = None, **options: Any) -> Any:
        name, *columns = args or (OUTBOX,)
        return operations.invoke(cls(name, columns, schema=schema, **options))

    def reverse(self) -> Any:
        drop = super().reverse()
        return DropStorageOutboxOp(drop.table_name, schema=drop.schema, _reverse=self)

    @classmethod
    def of(cls, op: ops.CreateTableOp) -> CreateStorageOutboxOp:
        """What autogenerate found, as the making of an outbox."""
        return cls(
            op.table_name,
            op.columns,
            schema=op.schema,
            comment=op.comment,
            info=op.info,
            prefixes=op.prefixes,
            _namespace_metadata=op._namespace_metadata,
            _constraints_included=op._constraints_included,
            **op.kw,
        )


@Operations.register_operation("drop_storage_outbox", "run_outbox")
class DropStorageOutboxOp(ops.DropTableOp):
    """Drop the outbox, and on PostgreSQL its triggers' function: ``op.drop_storage_outbox()``.

    It stays while it has rows, since they name objects that nothing else names any more. In ``--sql`` mode, where
    nobody can ask, it is dropped.
    """

    @classmethod
    def run_outbox(cls, operations: Operations, name: str = OUTBOX, *, schema: str | None = None) -> Any:
        return operations.invoke(cls(name, schema=schema))

    def reverse(self) -> Any:
        create = self._reverse
        if create is None:
            return CreateStorageOutboxOp(self.table_name, (), schema=self.schema)
        return CreateStorageOutboxOp.of(create)

    @classmethod
    def of(cls, op: ops.DropTableOp) -> DropStorageOutboxOp:
        """What autogenerate found, as the dropping of an outbox."""
        return cls(op.table_name, schema=op.schema, table_kw=op.table_kw, _reverse=op._reverse)


@Operations.register_operation("create_storage_registry", "run_registry")
class CreateStorageRegistryOp(ops.CreateTableOp):
    """Make the registry, and this database's id: ``op.create_storage_registry()``."""

    @classmethod
    def run_registry(cls, operations: Operations, name: str = REGISTRY, *, schema: str | None = None) -> Any:
        return operations.invoke(cls(name, (), schema=schema))

    def reverse(self) -> Any:
        return DropStorageRegistryOp(self.table_name, schema=self.schema)


@Operations.register_operation("drop_storage_registry", "run_registry")
class DropStorageRegistryOp(ops.DropTableOp):
    """Drop the registry, and with it this database's id and what sweeps know: ``op.drop_storage_registry()``."""

    @classmethod
    def run_registry(cls, operations: Operations, name: str = REGISTRY, *, schema: str | None = None) -> Any:
        return operations.invoke(cls(name, schema=schema))

    def reverse(self) -> Any:
        return CreateStorageRegistryOp(self.table_name, (), schema=self.schema)
