"""What a file field can do in SQL: its members, emptiness, and equality, which is that of the object."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, String, and_, cast, false, literal, not_, or_, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, ColumnElement, Null
from sqlalchemy.types import TypeEngine

from granite_storage.exceptions import StagedValueError
from granite_storage.files import StoredFile
from granite_storage.orm.members import (
    Backend,
    Checksum,
    ContentType,
    CreatedAt,
    ExtraMembers,
    Filename,
    Location,
    Size,
    StorageKey,
    portable_json,
)
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["FileComparator", "SameObject"]


class SameObject(BinaryExpression[Any]):
    """Whether two file columns name the same object.

    A binary expression of two columns, because SQLAlchemy takes the truth of ``column == column`` for identity, in
    its dictionaries of columns for one.
    """

    inherit_cache = True

    def _negate(self) -> SameObject:
        assert self.negate is not None
        return SameObject(self.left, self.right, self.negate, negate=self.operator, type_=self.type)


@compiles(SameObject)
def _same_object(element: SameObject, compiler: SQLCompiler, **kw: Any) -> str:
    left, right = _file_side(element.left), _file_side(element.right)
    same = and_(left.location == right.location, left.backend == right.backend)
    return f"({compiler.process(same if element.operator is operators.eq else not_(same), **kw)})"


def _file_side(side: ColumnElement[Any]) -> FileComparator:
    comparator = side.comparator
    if not isinstance(comparator, FileComparator):
        raise _incomparable(side)
    return comparator


def _incomparable(other: Any) -> TypeError:
    return TypeError(
        f"a file field compares with a StoredFile, a StoredObjectRef, None or another file field, "
        f"not {type(other).__name__}; compare a member instead, such as .filename or .checksum"
    )


class FileComparator(TypeEngine.Comparator[Any]):
    """What ``Document.report`` can do in SQL.

    Equality is the object's: same backend and location. Only files, refs and other file fields can be
    compared with.
    """

    @property
    def size(self) -> ColumnElement[int]:
        """Bytes, 64 bits wide."""
        return Size(self.expr)

    @property
    def content_type(self) -> ColumnElement[str]:
        """The accepted media type."""
        return ContentType(self.expr)

    @property
    def filename(self) -> ColumnElement[str]:
        """The filename that came with the upload."""
        return Filename(self.expr)

    @property
    def location(self) -> ColumnElement[str]:
        """Where the object is in its backend."""
        return Location(self.expr)

    @property
    def checksum(self) -> ColumnElement[str]:
        """``"<algorithm>:<hex digest>"``."""
        return Checksum(self.expr)

    @property
    def created_at(self) -> ColumnElement[datetime]:
        """When it was stored; compares with ``datetime`` (naive ones are taken as UTC)."""
        return CreatedAt(self.expr)

    @property
    def storage_key(self) -> ColumnElement[str]:
        """The name of the policy it was stored under."""
        return StorageKey(self.expr)

    @property
    def backend(self) -> ColumnElement[str]:
        """The manager's name for the backend."""
        return Backend(self.expr)

    @property
    def extra(self) -> ExtraMembers:
        """Further JSON members, by key or path."""
        return ExtraMembers(self.expr)

    def _same_as(self, other: Any) -> ColumnElement[bool]:
        if isinstance(other, StoredFile):
            if other.staged:
                raise StagedValueError("a staged upload equals no stored file: flush the session before the query")
            other = other.ref
        if isinstance(other, StoredObjectRef):
            return and_(self.location == other.location, self.backend == other.backend)
        if hasattr(other, "__clause_element__"):
            other = other.__clause_element__()
        if isinstance(other, ColumnElement):
            return SameObject(self.expr, other, operators.eq, negate=operators.ne, type_=Boolean())
        raise _incomparable(other)

    def _is_null(self) -> ColumnElement[bool]:
        # granite-storage 0.1.0 could write a JSON null where None was set
        text = type_coerce(self.expr, portable_json())
        return or_(text.is_(None), cast(text, String()) == literal("null", String()))

    def __eq__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        return self._is_null() if other is None or isinstance(other, Null) else self._same_as(other)

    def __ne__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        return not_(self == other)

    __hash__ = None  # type: ignore[assignment]

    def is_(self, other: Any) -> ColumnElement[bool]:
        """``is_(None)``: the field is empty."""
        return self.__eq__(other)

    def is_not(self, other: Any) -> ColumnElement[bool]:
        """``is_not(None)``: the field holds a file."""
        return self.__ne__(other)

    isnot = is_not

    def is_not_distinct_from(self, other: Any) -> ColumnElement[bool]:
        """The same object, or both empty; never NULL."""
        if other is None or isinstance(other, Null):
            return self._is_null()
        same = and_(self.is_not(None), self._same_as(other))
        if hasattr(other, "__clause_element__"):
            other = other.__clause_element__()
        if isinstance(other, ColumnElement) and isinstance(other.comparator, FileComparator):
            both_empty = and_(self._is_null(), other.comparator._is_null())
            return or_(both_empty, and_(other.comparator.is_not(None), same))
        return same

    def is_distinct_from(self, other: Any) -> ColumnElement[bool]:
        """Not the same object, nor both empty; never NULL."""
        return not_(self.is_not_distinct_from(other))

    isnot_distinct_from = is_not_distinct_from

    def in_(self, other: Iterable[Any]) -> ColumnElement[bool]:
        """Any of several files or refs."""
        return or_(false(), *(self._same_as(file) for file in other))

    def not_in(self, other: Iterable[Any]) -> ColumnElement[bool]:
        """None of several files or refs."""
        return not_(self.in_(other))

    notin_ = not_in
