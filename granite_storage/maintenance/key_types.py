"""What the types of a primary key mean for going through a table by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import REAL, Double, Enum, Float, TypeDecorator
from sqlalchemy.types import NullType

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.types import TypeEngine

__all__ = ["comes_back_changed", "is_named", "untellable"]

_MYSQL = ("mysql", "mariadb")
_HALF = 24  # bits: what has more is kept in double precision


def is_named(dialect: str, type_: TypeEngine[Any]) -> bool:
    """Whether values are put in order as numbers and compared by their names: ENUM of MySQL and MariaDB."""
    return dialect in _MYSQL and isinstance(_kept_as(dialect, type_), Enum)


def comes_back_changed(dialect: str, keys: Sequence[ColumnElement[Any]]) -> bool:
    """Whether a row is not found by the key that is read from it: a part is a number of single precision, or a SET.

    >>> from sqlalchemy import Column, Float, Double
    >>> comes_back_changed("mysql", [Column("a", Float)]), comes_back_changed("mysql", [Column("a", Double)])
    (True, False)
    """
    kept = [_kept_as(dialect, one.type) for one in keys]
    return any(_is_single(dialect, one) or _is_set(one) for one in kept)


def untellable(dialect: str, keys: Sequence[ColumnElement[Any]]) -> str | None:
    """Why rows cannot be told by a primary key like this; None if they can.

    >>> from sqlalchemy import ARRAY, Column, Integer
    >>> untellable("postgresql", [Column("a", ARRAY(Integer))])
    "its primary key is ARRAY in part ('a'), by which rows are not told apart"
    """
    for one in keys:
        kept = _kept_as(dialect, one.type)
        if not (kept.hashable or isinstance(kept, NullType)) or _is_set(kept):
            kind = type(kept).__name__
        elif _is_single(dialect, kept):
            kind = "a number of single precision"
        else:
            continue
        return f"its primary key is {kind} in part ({one.key!r}), by which rows are not told apart"
    return None


def _is_single(dialect: str, kept: TypeEngine[Any]) -> bool:
    if not isinstance(kept, Float) or isinstance(kept, Double):
        return False
    if isinstance(kept, REAL):
        return dialect == "postgresql"
    if dialect == "postgresql":
        return kept.precision is not None and kept.precision <= _HALF
    return dialect in _MYSQL and (kept.precision is None or kept.precision <= _HALF)


def _is_set(kept: TypeEngine[Any]) -> bool:
    return kept.__visit_name__ == "SET"  # MySQL's, which is long to import


def _kept_as(dialect: str, type_: TypeEngine[Any]) -> TypeEngine[Any]:
    kept = type_._variant_mapping.get(dialect, type_)
    while isinstance(kept, TypeDecorator):
        kept = kept.impl_instance
        kept = kept._variant_mapping.get(dialect, kept)
    return kept
