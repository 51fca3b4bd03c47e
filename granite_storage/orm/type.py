"""The column type: a JSON column on the database's side, files on Python's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import JSON, Text, cast, event, type_coerce
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from granite_storage.exceptions import ConfigurationError, InvalidRefError, StagedValueError
from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.orm.home import MANAGER_KEY, FieldHome
from granite_storage.orm.member_index import add_member_index, checked_members
from granite_storage.orm.members import portable_json
from granite_storage.orm.operators import FileComparator
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import Column, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql.elements import ColumnElement

__all__ = ["StoredObjectRefType", "portable_storage_ref_type"]


def portable_storage_ref_type() -> TypeEngine[Any]:
    """The bare column type for migrations: JSON, JSONB on PostgreSQL. It needs neither models nor policies.

    >>> portable_storage_ref_type()
    JSON()
    """
    from sqlalchemy.dialects.postgresql import JSONB

    return JSON().with_variant(JSONB(), "postgresql")


class UnreadableRef:
    """What a type without a policy loads for a value that is not a ref: any use of it raises InvalidRefError."""

    def __init__(self, raw: Any) -> None:
        self.__dict__["_raw"] = raw

    def __getattr__(self, name: str) -> NoReturn:
        _decode(self.__dict__["_raw"])
        raise AttributeError(name)

    def __repr__(self) -> str:
        return "<UnreadableRef>"


class StoredObjectRefType(TypeDecorator[Any]):
    """A column of refs.

    :param policy: the policy's name: the column then loads :class:`~granite_storage.StoredFile`. Without one it
        loads plain :class:`~granite_storage.StoredObjectRef`, as granite-storage 0.1.0 did.
    :param location_index: whether the table gets an index on the objects' locations.
    :param indexes: further members that get an index, such as ``("size",)``. It takes a policy.
    :param trigger: whether triggers of the database write the outbox; None for what the MetaData says. It takes a
        policy.
    """

    impl = JSON
    cache_ok = True
    comparator_factory = FileComparator  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        policy: str | None = None,
        *,
        location_index: bool = True,
        indexes: Iterable[str] = (),
        trigger: bool | None = None,
    ) -> None:
        super().__init__(none_as_null=True)
        self.policy = policy
        if trigger and policy is None:
            raise ConfigurationError(
                "StoredObjectRefType: trigger=True takes a policy, whose objects the outbox is for"
            )
        self.location_index = location_index
        self.indexes = checked_members(repr(self), indexes)
        if self.indexes and policy is None:
            raise ConfigurationError("StoredObjectRefType: indexes= takes a policy, as every file field has one")
        self.trigger = trigger
        self.home = FieldHome(policy)

    def __repr__(self) -> str:
        return f"StoredObjectRefType({'' if self.policy is None else repr(self.policy)})"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return portable_json().dialect_impl(dialect) if dialect.name == "postgresql" else self.impl_instance

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return self

    # To the database

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        if isinstance(value, StoredFile) and not value.staged:
            return value.ref.to_dict()
        if isinstance(value, StoredObjectRef):
            return value.to_dict()
        if self.policy is None and isinstance(value, Mapping):
            return StoredObjectRef.from_dict(value).to_dict()
        raise _unstorable(self.home, value)

    # From the database: the raw text is kept, and decoded when a file is first used

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        if isinstance(self.impl_instance, JSON) and type(self.impl_instance).__module__.startswith(
            "sqlalchemy.dialects.postgresql"
        ):
            return type_coerce(cast(column, Text()), self)  # or its drivers would decode every value at once
        return column

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        home = self.home

        def to_file(value: Any) -> StoredFile | None:
            return None if value is None or value == "null" else StoredFile(home, value)

        def to_ref(value: Any) -> StoredObjectRef | UnreadableRef | None:
            if value is None or value == "null":
                return None
            try:
                return _decode(value)
            except InvalidRefError:
                return UnreadableRef(value)

        return to_ref if self.policy is None else to_file

    def compare_values(self, x: Any, y: Any) -> bool:
        return bool(x == y)


@event.listens_for(StoredObjectRefType, "after_parent_attach")
def _joins_column(type_: StoredObjectRefType, column: Column[Any]) -> None:
    """A type that joins a column gets a home of its own: a column's copies, as of a mixin, share nothing."""
    if type_.home.column is not None:  # one type given to several columns, as by type_annotation_map
        column.type = type_ = type_.copy()
    type_.home = FieldHome(type_.policy, column)
    if column.table is not None:
        _joins_table(column, column.table)
    else:
        event.listen(column, "after_parent_attach", _joins_table)


def _joins_table(column: Column[Any], table: Table) -> None:
    type_ = column.type
    if isinstance(type_, StoredObjectRefType) and type_.policy is not None:
        manager = table.metadata.info.get(MANAGER_KEY)
        if manager is not None and type_.policy not in manager.policies:  # declared after attach()
            raise ConfigurationError(
                f"file field {type_.home} names the unknown policy {type_.policy!r}; "
                f"the manager has {', '.join(map(repr, manager.policies)) or 'none'}"
            )
        for member in (*(("location",) if type_.location_index else ()), *type_.indexes):
            add_member_index(table, column, member)
        # The tables and triggers that join the MetaData: not before a field is declared.
        from granite_storage.orm.outbox import add_outbox
        from granite_storage.orm.registering import add_registration
        from granite_storage.orm.triggers import add_triggers

        add_registration(table)
        add_outbox(table.metadata)
        add_triggers(table, column)


def _decode(value: Any) -> StoredObjectRef:
    return StoredObjectRef.from_json(value) if isinstance(value, (str, bytes)) else StoredObjectRef.from_dict(value)


class _UnstorableError(StagedValueError, DontWrapMixin):
    """Raised as it is, where SQLAlchemy would wrap it into a StatementError."""


def _unstorable(home: FieldHome, value: Any) -> StagedValueError:
    what = "an upload" if isinstance(value, (StoredFile, Upload)) else type(value).__name__
    return _UnstorableError(
        f"file field {home}: {what} reached an SQL statement unstored; assign it to a mapped object "
        "and flush, or store it first: manager.store(policy, source)"
    )
