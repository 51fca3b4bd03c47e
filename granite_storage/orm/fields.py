"""Which attributes of a mapped class are file fields."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Column, ColumnClause, FromClause

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.home import FieldHome
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

__all__ = ["FileField", "field_of", "fields_by_key", "file_fields", "forget_fields", "mapper_of"]


@dataclass(frozen=True, slots=True)
class FileField:
    """One file field of a mapped class: the attribute's name, its column and its home."""

    key: str
    column: Column[Any]
    home: FieldHome


_known: WeakKeyDictionary[Mapper[Any], tuple[FileField, ...]] = WeakKeyDictionary()
_mappers: WeakKeyDictionary[FromClause, weakref.ref[Mapper[Any]]] = WeakKeyDictionary()


def file_fields(mapper: Mapper[Any]) -> tuple[FileField, ...]:
    """The file fields of a mapped class, inherited ones included."""
    fields = _known.get(mapper)
    if fields is None:
        fields = _known[mapper] = tuple(
            FileField(key, column, cast("StoredObjectRefType", column.type).home)
            for key, column in mapper.columns.items()
            if _is_file(column)
        )
        for one in fields:
            _check_one_column(mapper, one)
            _mappers.setdefault(one.column.table, weakref.ref(mapper))
    return fields


def fields_by_key(mapper: Mapper[Any]) -> dict[str, FileField]:
    """The file fields of a mapped class by all the names a statement may call them: attribute, synonym, column."""
    fields = file_fields(mapper)
    by_key = {one.column.key: one for one in fields} | {one.key: one for one in fields}
    for name, synonym in mapper.synonyms.items():
        if synonym.name in by_key:
            by_key[name] = by_key[synonym.name]
    return by_key


def field_of(column: Any) -> FileField | None:
    """The file field that a column of a statement stands for, be it an attribute's or an alias's; None if for none."""
    type_ = getattr(column, "type", None)
    if not isinstance(column, ColumnClause) or not isinstance(type_, StoredObjectRefType) or type_.policy is None:
        return None
    own = type_.home.column
    return None if own is None else FileField(own.key, own, type_.home)


def mapper_of(table: FromClause) -> Mapper[Any] | None:
    """A mapper of a table that has file fields: some sessions tell their database by the mapper only."""
    known = _mappers.get(table)
    return None if known is None else known()


def forget_fields(mapper: Mapper[Any]) -> None:
    """Look at a mapped class anew: an attribute was added to it."""
    _known.pop(mapper, None)


def _is_file(column: Any) -> bool:
    """Whether it is a column, and no expression of a ``column_property()``, of a type with a policy."""
    return (
        isinstance(column, Column) and isinstance(column.type, StoredObjectRefType) and column.type.policy is not None
    )


def _check_one_column(mapper: Mapper[Any], field: FileField) -> None:
    columns = [column for column in mapper.get_property_by_column(field.column).columns if _is_file(column)]
    if len(columns) > 1:
        tables = " and ".join(sorted(str(column.table) for column in columns))
        raise ConfigurationError(
            f"file field {mapper.class_.__name__}.{field.key} stands for a column in each of {tables}, so that one "
            "object would be two rows'; give one of the columns another attribute name"
        )
