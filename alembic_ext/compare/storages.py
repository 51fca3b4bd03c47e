"""What a database knows about the file fields of a MetaData: the rows of its registry, and whether it has an outbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, column, select, table

from granite_storage.orm.options import options_of
from granite_storage.orm.registry import registry_of
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from alembic.autogenerate.api import AutogenContext

    from alembic_ext.operations import RenameFileTableOp

__all__ = ["FieldRow", "Storage", "all_storages", "key_of"]

_Key = tuple[str | None, str]
_REGISTRY = {"schema_name", "table_name", "column_name", "policy", "trigger_version"}
_OUTBOX = {"backend", "location", "storage_key", "not_before", "attempts"}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """What the registry notes about one file field."""

    policy: str | None
    trigger_version: int | None


@dataclass
class Storage:
    """The registry and the outbox of one MetaData."""

    metadata: MetaData
    registry: str
    outbox: str | None
    schema: str | None
    """Their schema, as the MetaData names it."""
    has_registry: bool = False
    """Whether the registry is in the database."""
    has_outbox: bool = False
    """Whether the outbox is in the database."""
    rows: dict[_Key, dict[str, FieldRow]] = field(default_factory=dict)
    """The registry's rows by table and column; a schema is None if it is the default one."""
    followed: dict[_Key, RenameFileTableOp] = field(default_factory=dict)
    """The operations that take what is noted about a table along to its new name, by that name."""
    former: Storage | None = None
    """What the migration drops because the MetaData has other names for them now: a registry, an outbox or both."""
    makes: set[str] = field(default_factory=set)
    """The names of those of the two tables that the migration makes."""

    @property
    def is_used(self) -> bool:
        """Whether there is any trace of file fields, in the database or in the models."""
        columns = (column for table in self.metadata.tables.values() for column in table.columns)
        stored = self.has_registry or self.has_outbox or self.former is not None
        return stored or any(isinstance(column.type, StoredObjectRefType) for column in columns)

    @property
    def frees(self) -> bool:
        """Whether there is an outbox while the migration runs."""
        return self.has_outbox or self.outbox in self.makes

    @property
    def registers(self) -> bool:
        """Whether there is a registry while the migration runs."""
        return self.has_registry or self.registry in self.makes

    @property
    def before(self) -> Storage:
        """The registry and the outbox that the triggers and rows are for which the migration finds."""
        if self.former is None or (self.outbox is not None and not self.makes):
            return self
        return self.former

    def names(self, schema: str | None) -> dict[str, Any]:
        """The arguments of an operation on a table in a schema."""
        return {
            "schema": schema,
            "registry": self.registry,
            "outbox": self.outbox,
            "storage_schema": self.schema,
        }


def all_storages(context: AutogenContext, dropped: Collection[_Key] = ()) -> list[Storage]:
    """What the database knows about each MetaData that is compared with it.

    :param dropped: schema and name of the tables that are to be dropped: the last file field may have gone, and with it
        the only trace of the schema that registry and outbox are in.
    """
    metadata: Any = context.metadata
    every = [metadata] if isinstance(metadata, MetaData) else list(metadata or ())
    registries = [key for key in dropped if _has(context, key[1], key[0], _REGISTRY)]
    outboxes = [key for key in dropped if _has(context, key[1], key[0], _OUTBOX)]
    return [_storage(context, one, registries, outboxes) for one in every]


def key_of(context: AutogenContext, schema: str | None, name: str) -> _Key:
    """A table's schema, None if it is the default one, and its name."""
    return (None if schema == getattr(context.dialect, "default_schema_name", None) else schema), name


def _storage(
    context: AutogenContext, metadata: MetaData, registries: Sequence[_Key], outboxes: Sequence[_Key]
) -> Storage:
    options = options_of(metadata)
    named = Storage(metadata, options.registry, options.outbox, metadata.schema)
    dropped = _dropped(named, registries, outboxes)
    if dropped is not None and registry_of(metadata) is None:
        return _looked_up(context, dropped)  # the last file field went, and the names may have gone with it
    if dropped is not None:
        named.former = _looked_up(context, dropped)
    return _looked_up(context, named)


def _dropped(named: Storage, registries: Sequence[_Key], outboxes: Sequence[_Key]) -> Storage | None:
    """The registry and the outbox that the migration drops, where it can be told that they were a MetaData's."""
    registry = _one_of(registries, named.registry) or (named.schema, named.registry)
    outbox = _one_of(outboxes, named.outbox) or (registry[0], named.outbox)
    if registry not in registries and outbox not in outboxes:
        return None
    schema = registry[0] if registry in registries else outbox[0]
    return Storage(named.metadata, registry[1], outbox[1], schema)


def _one_of(keys: Sequence[_Key], name: str | None) -> _Key | None:
    """The one of a name, or of another if there is no other."""
    found = [key for key in keys if key[1] == name] or keys
    return found[0] if len(found) == 1 else None


def _looked_up(context: AutogenContext, storage: Storage) -> Storage:
    """What the database has of a registry and an outbox."""
    storage.has_registry = _has(context, storage.registry, storage.schema, _REGISTRY)
    storage.has_outbox = storage.outbox is not None and _has(context, storage.outbox, storage.schema, _OUTBOX)
    if storage.has_registry:
        _read(context, storage)
    return storage


def _has(context: AutogenContext, name: str, schema: str | None, columns: set[str]) -> bool:
    """Whether the database has a table of ours: of that name, and with our columns."""
    if not context.inspector.has_table(name, schema=schema):
        return False
    return columns <= {one["name"] for one in context.inspector.get_columns(name, schema=schema)}


def _read(context: AutogenContext, storage: Storage) -> None:
    assert context.connection is not None
    names = ("schema_name", "table_name", "column_name", "policy", "trigger_version")
    registry = table(storage.registry, *map(column, names), schema=storage.schema)
    rows = select(registry).where(registry.c.table_name != "").order_by(*(registry.c[name] for name in names[:3]))
    for row in context.connection.execute(rows):
        key = key_of(context, row.schema_name or None, row.table_name)
        storage.rows.setdefault(key, {})[row.column_name] = FieldRow(row.policy, row.trigger_version)
