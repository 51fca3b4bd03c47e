"""The target of a bulk statement: which mapped class it changes, with which parameters, over which connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Delete, FromClause, Insert, Update

from granite_storage.exceptions import BulkStatementError
from granite_storage.orm.fields import FileField, field_of, fields_by_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper, ORMExecuteState

__all__ = ["Target", "target_of"]

_SCHEMAS = "schema_translate_map"


@dataclass(frozen=True, slots=True)
class Target:
    """An ORM INSERT, UPDATE or DELETE that is about to run on a mapped class whose table has file fields."""

    execution: ORMExecuteState
    statement: Insert | Update | Delete
    mapper: Mapper[Any]
    by_key: Mapping[str, FileField]
    """The file fields of the class by all the names a statement may call them."""

    def __str__(self) -> str:
        return f"{self.statement.__visit_name__.upper()} of {self.mapper.class_.__name__}"

    @property
    def table(self) -> FromClause:
        """The table that it changes."""
        return self.mapper.local_table

    @property
    def parameters(self) -> Sequence[Mapping[str, Any]]:
        """The caller's parameters, one mapping for each run of the statement; they are never changed."""
        given = self.execution.parameters
        if not given:
            return ()
        return (given,) if isinstance(given, Mapping) else given

    @property
    def strategy(self) -> str:
        """The ``dml_strategy`` that SQLAlchemy was told to use."""
        return str(self.execution.execution_options.get("dml_strategy", "auto"))

    @property
    def is_core(self) -> bool:
        """Whether it was told to run as Core would, without criteria that the ORM adds."""
        return self.strategy == "core_only"

    @property
    def by_primary_key(self) -> bool:
        """Whether it is an UPDATE whose parameters each name a row."""
        return isinstance(self.execution.parameters, list) and self.strategy in ("auto", "bulk")

    @property
    def by_attributes(self) -> bool:
        """Whether it is an INSERT whose parameters each are an object's attributes, of all its tables."""
        return bool(self.execution.parameters) and self.strategy in ("auto", "bulk")

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """How the session finds the connection that SQLAlchemy runs it over."""
        if self.by_attributes if isinstance(self.statement, Insert) else self.by_primary_key:
            return {"mapper": self.mapper.base_mapper}
        return dict(self.execution.bind_arguments)

    def field(self, key: Any) -> FileField | None:
        """The file field that a key of parameters or ``values()`` stands for: a name, an attribute or a column."""
        if isinstance(key, str):
            return self.by_key.get(key)
        found = field_of(key)
        if found is None:
            return None
        return next((one for one in self.by_key.values() if one.column is found.column), found)

    def connection(self) -> Connection:
        """The connection that the statement will run over.

        :raises BulkStatementError: if it has schemas of its own, so that nobody could tell where the outbox is.
        """
        connection = self.execution.session.connection(bind_arguments=self.bind_arguments)
        schemas = self.execution.execution_options.get(_SCHEMAS)
        if schemas is not None and schemas != connection.get_execution_options().get(_SCHEMAS):
            raise BulkStatementError(
                f"{self}: it has a schema_translate_map of its own, and its files would be looked for elsewhere; set "
                "the map on the engine, or on the session's connection: session.connection(execution_options=...)"
            )
        return connection

    def autoflush(self) -> None:
        """Flush what is pending, where the statement itself would."""
        if self.execution.execution_options.get("autoflush", True):
            self.execution.session._autoflush()


def target_of(execution: ORMExecuteState) -> Target | None:
    """The target of a statement; None for a SELECT, for Core, and where no file fields are."""
    statement = execution.statement
    if not isinstance(statement, (Insert, Update, Delete)):
        return None
    entity = statement.table._annotations.get("parententity")
    if entity is None:
        return None
    mapper: Mapper[Any] = entity.mapper
    if not any(field_of(column) for table in mapper.tables for column in table.columns):
        return None
    return Target(execution, statement, mapper, fields_by_key(mapper))
