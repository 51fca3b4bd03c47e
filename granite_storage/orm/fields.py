"""Which attributes of a mapped class are file fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column

from granite_storage.orm.home import FieldHome
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

__all__ = ["FileField", "file_fields", "forget_fields"]


@dataclass(frozen=True, slots=True)
class FileField:
    """One file field of a mapped class: the attribute's name, its column and its home."""

    key: str
    column: Column[Any]
    home: FieldHome


_known: WeakKeyDictionary[Mapper[Any], tuple[FileField, ...]] = WeakKeyDictionary()


def file_fields(mapper: Mapper[Any]) -> tuple[FileField, ...]:
    """The file fields of a mapped class, inherited ones included."""
    fields = _known.get(mapper)
    if fields is None:
        fields = _known[mapper] = tuple(
            FileField(key, column, column.type.home)
            for key, column in mapper.columns.items()
            if isinstance(column, Column)  # type: ignore[redundant-expr]  # or the expression of a column_property()
            and isinstance(column.type, StoredObjectRefType)
            and column.type.policy is not None
        )
    return fields


def forget_fields(mapper: Mapper[Any]) -> None:
    """Look at a mapped class anew: an attribute was added to it."""
    _known.pop(mapper, None)
