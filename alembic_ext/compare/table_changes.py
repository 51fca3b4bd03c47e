"""The operations of one migration, grouped by table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import Index, Table

from alembic_ext.compare.member_indexes import index_names, member_indexes
from granite_storage.orm.location_index import location_index_name
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import Column

__all__ = ["TableChange", "TableChanges"]

_Key = tuple[str | None, str]
"""A table's schema, None if it is the default one, and its name."""


@dataclass
class TableChange:
    """What a migration does to one table that has file columns: in the models, in the database or in both."""

    context: AutogenContext
    schema: str | None
    """As comparators name it: None is the default schema."""
    name: str
    model: Table | None
    """The models' table, if it is in the models."""
    exists: bool
    """Whether it is in the database."""
    operations: list[ops.MigrateOperation] = field(default_factory=list)
    before: list[ops.MigrateOperation] = field(default_factory=list)
    """What comes before all other operations on this table."""
    after: list[ops.MigrateOperation] = field(default_factory=list)
    """What comes after them."""

    @property
    def modifications(self) -> Iterator[ops.ModifyTableOps]:
        return (op for op in self.operations if isinstance(op, ops.ModifyTableOps))

    @property
    def create_table(self) -> ops.CreateTableOp | None:
        return next((op for op in self.operations if isinstance(op, ops.CreateTableOp)), None)

    @property
    def drop_table(self) -> ops.DropTableOp | None:
        return next((op for op in self.operations if isinstance(op, ops.DropTableOp)), None)

    @property
    def model_columns(self) -> list[Column[Any]]:
        """The columns of refs in the models."""
        columns: list[Column[Any]] = [] if self.model is None else list(self.model.columns)
        return [column for column in columns if isinstance(column.type, StoredObjectRefType)]

    @property
    def model_indexes(self) -> dict[str, Index]:
        """The indexes on members of refs that the models have and the user's filters let pass."""
        indexes = {} if self.model is None else {str(index.name): index for index in member_indexes(self.model)}
        return {name: index for name, index in indexes.items() if self._compared(index, name)}

    def _compared(self, index: Index, name: str) -> bool:
        about: Any = {"table_name": self.name, "schema_name": self.schema}
        return self.context.run_name_filters(name, "index", about) and self.context.run_object_filters(
            index, name, "index", False, None
        )

    def database_columns(self) -> list[str]:
        """The names of all columns in the database."""
        if not self.exists:
            return []
        return [column["name"] for column in self.context.inspector.get_columns(self.name, schema=self.schema)]

    def indexed_columns(self) -> set[str]:
        """The columns in the database whose locations are indexed: whatever the models say, they are file columns."""
        if not self.exists:
            return set()
        names = index_names(self.context, self.name, self.schema)
        return {column for column in self.database_columns() if location_index_name(self.name, column) in names}

    def remove(self, unwanted: list[ops.MigrateOperation]) -> None:
        """Take operations out of the modifications of this table."""
        for modification in self.modifications:
            modification.ops[:] = [op for op in modification.ops if not any(op is other for other in unwanted)]


class TableChanges:
    """The changes of every table with file columns, and the operations of all tables in their order."""

    def __init__(self, context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]) -> None:
        self._default_schema: str | None = getattr(context.dialect, "default_schema_name", None)
        self._ops = list(upgrade_ops.ops)
        self._changes: dict[_Key, TableChange] = {}
        models = {self._key(table.schema, table.name): table for table in context.sorted_tables}
        created = {self._table_of(op) for op in self._ops if isinstance(op, ops.CreateTableOp)}
        for key in dict.fromkeys([*filter(None, map(self._table_of, self._ops)), *models]):
            change = TableChange(context, *key, model=models.get(key), exists=key not in created)
            change.operations += [op for op in self._ops if self._table_of(op) == key]
            if change.operations or (change.model_columns and _was_compared(change, schemas)):
                change.exists = change.exists and context.inspector.has_table(change.name, schema=change.schema)
                if change.model_columns or change.indexed_columns():
                    self._changes[key] = change

    def __iter__(self) -> Iterator[TableChange]:
        return iter(self._changes.values())

    def operations(self) -> list[ops.MigrateOperation]:
        """All operations, in the order in which they work."""
        result: list[ops.MigrateOperation] = []
        for op in self._ops:
            key = self._table_of(op)
            change = None if key is None else self._changes.get(key)
            if change is not None and op is change.operations[0]:
                result += change.before
            if not isinstance(op, ops.ModifyTableOps) or not op.is_empty():
                result.append(op)
            if change is not None and op is change.operations[-1]:
                result += change.after
        for change in self._changes.values():
            if not change.operations:
                result += [*change.before, *change.after]
        return result

    def _table_of(self, op: ops.MigrateOperation) -> _Key | None:
        if isinstance(op, (ops.CreateTableOp, ops.DropTableOp, ops.ModifyTableOps)):
            return self._key(op.schema, op.table_name)
        return None

    def _key(self, schema: str | None, name: str) -> _Key:
        return (None if schema == self._default_schema else schema), name


def _was_compared(change: TableChange, schemas: set[str | None]) -> bool:
    """Whether Alembic compared a table of the models with one in the database, and found no difference."""
    assert change.model is not None
    return (
        change.schema in schemas
        and change.context.inspector.has_table(change.name, schema=change.schema)
        and change.context.run_name_filters(change.name, "table", {"schema_name": change.schema})
        and change.context.run_object_filters(change.model, change.name, "table", False, change.model)
    )
