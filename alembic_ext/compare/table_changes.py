"""The operations of one migration, grouped by table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import Column, Index, MetaData, Table

from alembic_ext.compare.member_indexes import index_names, member_indexes
from alembic_ext.compare.storages import key_of
from granite_storage.orm.member_index import MEMBERS, member_index_name
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

    from alembic_ext.compare.storages import FieldRow, Storage
    from alembic_ext.operations import RenameFileTableOp

__all__ = ["INDEX_OPS", "TableChange", "TableChanges", "policy_of", "was_compared"]

_Key = tuple[str | None, str]
INDEX_OPS = (ops.CreateIndexOp, ops.DropIndexOp)


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
    storage: Storage
    """Its registry and outbox."""
    operations: list[ops.MigrateOperation] = field(default_factory=list)
    before: list[ops.MigrateOperation] = field(default_factory=list)
    """What comes before all other operations on this table."""
    after: list[ops.MigrateOperation] = field(default_factory=list)
    """What comes after them."""
    renamed: dict[str, str] = field(default_factory=dict)
    """The file columns that the migration renames, with their new names."""

    @property
    def op_schema(self) -> str | None:
        """The table's schema in an operation: as the models name it."""
        return self.schema if self.model is None else self.model.schema

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
        return {name: index for name, index in indexes.items() if self.compares_index(name, index)}

    def compares_index(self, name: str, index: Index | None = None) -> bool:
        """Whether the user's filters let an index pass: one of the models, or else one of the database."""
        reflected = index is None
        if index is None:
            index = Index(name, _table=Table(self.name, MetaData(), schema=self.schema))
        about: Any = {"table_name": self.name, "schema_name": self.schema}
        return self.context.run_name_filters(name, "index", about) and self.context.run_object_filters(
            index, name, "index", reflected, None
        )

    def compares_column(self, name: str) -> bool:
        """Whether a column is in the models, and the user's filters let it pass."""
        column = None if self.model is None else next((one for one in self.model.columns if one.name == name), None)
        if column is None or self.create_table is not None:  # with the table comes each of its columns
            return column is not None
        return self.context.run_object_filters(column, name, "column", False, None)

    def database_columns(self) -> list[str]:
        """The names of all columns in the database."""
        if not self.exists:
            return []
        return [column["name"] for column in self.context.inspector.get_columns(self.name, schema=self.schema)]

    @property
    def followed(self) -> RenameFileTableOp | None:
        """What takes fields and indexes along from an old name of the table, before all else."""
        return self.storage.followed.get((self.schema, self.name))

    def index_names(self) -> set[str]:
        """The names of its indexes in the database, those on expressions too, once those of an old name followed."""
        if not self.exists:
            return set()
        new_names = {} if self.followed is None else self.followed.index_names
        return {new_names.get(name, name) for name in index_names(self.context, self.name, self.schema)}

    def indexed_columns(self) -> set[str]:
        """The columns in the database whose members are indexed: whatever the models say, they are file columns."""
        names = self.index_names()
        return {
            column
            for column in self.database_columns()
            if any(member_index_name(self.name, column, member) in names for member in MEMBERS)
        }

    def noted(self) -> dict[str, FieldRow]:
        """What the registry notes about its file fields, those that are not in the database any more, too."""
        return self.storage.rows.get((self.schema, self.name), {})

    def stored_fields(self) -> list[str]:
        """The columns in the database that are file columns, whatever the models say."""
        known = self.indexed_columns() | self.noted().keys()
        return [column for column in self.database_columns() if column in known]

    def declared_fields(self) -> list[Column[Any]]:
        """The file fields of the models that are in the database once the migration is done."""
        present = (set(self.database_columns()) - self.dropped_columns()) | self.added_columns()
        present |= set(self.renamed.values())
        return [
            column
            for column in self.model_columns
            if policy_of(column) is not None and column.name in present and self.compares_column(column.name)
        ]

    def dropped_columns(self) -> set[str]:
        """The columns that the migration drops, with or without the table."""
        if self.drop_table is not None:
            return set(self.database_columns())
        dropped = (op for modification in self.modifications for op in modification.ops)
        return {str(op.column_name) for op in dropped if isinstance(op, ops.DropColumnOp)}

    def added_columns(self) -> set[str]:
        """The columns that the migration adds, with or without the table."""
        create = self.create_table
        items: list[Any] = [] if create is None else [item for item in create.columns if isinstance(item, Column)]
        added = (op for modification in self.modifications for op in modification.ops)
        items += [op.column for op in added if isinstance(op, ops.AddColumnOp)]
        return {str(column.name) for column in items}

    def is_rebuilt(self, *, back: bool) -> bool:
        """Whether a batch makes the table anew, on the way up or on the way back: SQLite changes most only so."""
        assert self.context.dialect is not None
        if self.context.dialect.name != "sqlite":
            return False
        in_place: Any = (*INDEX_OPS, ops.DropColumnOp if back else ops.AddColumnOp)
        batched = [op for modification in self.modifications for op in modification.ops]
        return bool(self.context.opts.get("render_as_batch")) and any(not isinstance(op, in_place) for op in batched)

    def remove(self, unwanted: Sequence[ops.MigrateOperation]) -> None:
        """Take operations out."""
        for found in (self.before, self.after, *(modification.ops for modification in self.modifications)):
            found[:] = [op for op in found if not any(op is other for other in unwanted)]


def policy_of(column: Column[Any]) -> str | None:
    """The policy of a file column; None for any other column."""
    policy: str | None = getattr(column.type, "policy", None)
    return policy


class TableChanges:
    """The changes of every table with file columns, and the operations of all tables in their order."""

    def __init__(
        self,
        context: AutogenContext,
        upgrade_ops: ops.UpgradeOps,
        schemas: set[str | None],
        storages: Sequence[Storage],
    ) -> None:
        self._context = context
        self._storages = storages
        self._ops = list(upgrade_ops.ops)
        self._changes: dict[_Key, TableChange] = {}
        models = {self._key(table.schema, table.name): table for table in context.sorted_tables}
        created = {self._table_of(op) for op in self._ops if isinstance(op, ops.CreateTableOp)}
        for key in dict.fromkeys([*filter(None, map(self._table_of, self._ops)), *models]):
            model, exists = models.get(key), key not in created
            change = TableChange(context, *key, model=model, exists=exists, storage=self._storage(key, model))
            change.operations += [op for op in self._ops if self._table_of(op) == key]
            if change.operations or (
                (change.model_columns or change.noted()) and was_compared(context, key, model, schemas)
            ):
                change.exists = change.exists and context.inspector.has_table(change.name, schema=change.schema)
                if change.model_columns or change.indexed_columns() or change.noted():
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
        return key_of(self._context, schema, name)

    def _storage(self, key: _Key, model: Table | None) -> Storage:
        """The storage of a table's MetaData; of one that no model has, that whose registry names it."""
        for storage in self._storages:
            if storage.metadata is model.metadata if model is not None else key in storage.rows:
                return storage
        return self._storages[0]


def was_compared(context: AutogenContext, key: _Key, model: Table | None, schemas: set[str | None]) -> bool:
    """Whether Alembic compared a table of the models with one in the database."""
    schema, name = key
    return (
        model is not None
        and schema in schemas
        and context.inspector.has_table(name, schema=schema)
        and context.run_name_filters(name, "table", {"schema_name": schema})
        and context.run_object_filters(model, name, "table", False, model)
    )
