"""The SQL side of a file field: its members as typed SQL expressions.

Each member compiles to fixed SQL text of ours, not to what SQLAlchemy makes of a JSON index, which differs between 2.0 and 2.1:
an expression index serves a query only if both are spelled the same, this year and next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Boolean, Null, String, and_, cast, false, literal, not_, or_, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from granite_storage.exceptions import StagedValueError
from granite_storage.files import StoredFile
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["ExtraMembers", "FileComparator", "RefMember", "portable_json"]


@cache
def portable_json() -> TypeEngine[Any]:
    """JSON everywhere, JSONB on PostgreSQL; None is SQL NULL."""
    from sqlalchemy.dialects.postgresql import JSONB  # loads every driver of the dialect: not before it is needed

    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class _IsoDateTime(TypeDecorator[datetime]):
    """A point in time as a ref's text has it: ISO 8601 in UTC, which sorts as it is."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | str | None, dialect: Dialect) -> str | None:
        if not isinstance(value, datetime):
            return value
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class RefMember(FunctionElement[Any]):
    """One member of a ref as an SQL expression; NULL where the ref has none. One subclass a member."""

    inherit_cache = True
    member: str


class _StorageKey(RefMember):
    type, member, inherit_cache = String(), "storage_key", True


class _Backend(RefMember):
    type, member, inherit_cache = String(), "backend", True


class _Location(RefMember):
    type, member, inherit_cache = String(), "location", True


class _Checksum(RefMember):
    type, member, inherit_cache = String(), "checksum", True


class _ContentType(RefMember):
    type, member, inherit_cache = String(), "content_type", True


class _Filename(RefMember):
    type, member, inherit_cache = String(), "original_filename", True


class _CreatedAt(RefMember):
    type, member, inherit_cache = _IsoDateTime(), "created_at", True


class _Size(RefMember):
    type, member, inherit_cache = BigInteger(), "size", True


@compiles(RefMember)
def _arrow(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    text = f"({compiler.process(element.clauses, **kw)} ->> '{element.member}')"
    return f"(CAST({text} AS BIGINT))" if isinstance(element, _Size) else text


@compiles(RefMember, "sqlite")
def _json_extract(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **kw)}, '$.{element.member}')"


@compiles(RefMember, "mysql")
@compiles(RefMember, "mariadb")
def _json_value(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    operand = compiler.process(element.clauses, **kw)
    returning = "" if getattr(compiler.dialect, "is_mariadb", False) else " RETURNING CHAR(2048)"
    text = f"JSON_VALUE({operand}, '$.{element.member}'{returning})"
    return f"CAST({text} AS SIGNED)" if isinstance(element, _Size) else text


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
    left, right = element.left.comparator, element.right.comparator
    for comparator in (left, right):
        if not isinstance(comparator, FileComparator):
            raise _incomparable(comparator.expr)
    same = and_(left.location == right.location, left.backend == right.backend)
    return f"({compiler.process(same if element.operator is operators.eq else not_(same), **kw)})"


def _incomparable(other: Any) -> TypeError:
    return TypeError(
        f"a file field compares with a StoredFile, a StoredObjectRef, None or another file field, "
        f"not {type(other).__name__}; compare a member instead, such as .filename or .checksum"
    )


class _Key(TypeDecorator[str]):
    """A key in a JSON path; in the paths of SQLite and MariaDB it is written as in JSON text."""

    impl = JSON.JSONStrIndexType
    cache_ok = True

    def process_literal_param(self, value: str | None, dialect: Dialect) -> str:
        return value or "" if dialect.name == "postgresql" else json.dumps(value)[1:-1]


class _Index(TypeDecorator[int]):
    """A position in a JSON path."""

    impl = JSON.JSONIntIndexType
    cache_ok = True


class ExtraMembers:
    """``Document.report.extra["camera", "model"].as_string() == "X100"``: members of ``extra`` by key or path."""

    __slots__ = ("_expr",)

    def __init__(self, expr: ColumnElement[Any]) -> None:
        self._expr = expr

    def __getitem__(self, path: str | int | tuple[str | int, ...]) -> Any:
        """The member as a JSON expression; ``as_string()``, ``as_integer()`` ... give it an SQL type.

        SQLite before 3.45 finds no key that has a quotation mark in it.
        """
        member: Any = type_coerce(self._expr, portable_json())
        for step in ("extra", *(path if isinstance(path, tuple) else (path,))):
            member = member[literal(step, _Index() if isinstance(step, int) else _Key(), literal_execute=True)]
        return member


class FileComparator(TypeEngine.Comparator[Any]):
    """What ``Document.report`` can do in SQL.

    Equality is the object's: same backend and location. Only files, refs and other file fields can be
    compared with.
    """

    @property
    def size(self) -> ColumnElement[int]:
        """Bytes, 64 bits wide."""
        return _Size(self.expr)

    @property
    def content_type(self) -> ColumnElement[str]:
        """The accepted media type."""
        return _ContentType(self.expr)

    @property
    def filename(self) -> ColumnElement[str]:
        """The filename that came with the upload."""
        return _Filename(self.expr)

    @property
    def location(self) -> ColumnElement[str]:
        """Where the object is in its backend."""
        return _Location(self.expr)

    @property
    def checksum(self) -> ColumnElement[str]:
        """``"<algorithm>:<hex digest>"``."""
        return _Checksum(self.expr)

    @property
    def created_at(self) -> ColumnElement[datetime]:
        """When it was stored; compares with ``datetime`` (naive ones are taken as UTC)."""
        return _CreatedAt(self.expr)

    @property
    def storage_key(self) -> ColumnElement[str]:
        """The name of the policy it was stored under."""
        return _StorageKey(self.expr)

    @property
    def backend(self) -> ColumnElement[str]:
        """The manager's name for the backend."""
        return _Backend(self.expr)

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

    def in_(self, other: Iterable[Any]) -> ColumnElement[bool]:
        """Any of several files or refs."""
        return or_(false(), *(self._same_as(file) for file in other))

    def not_in(self, other: Iterable[Any]) -> ColumnElement[bool]:
        """None of several files or refs."""
        return not_(self.in_(other))

    notin_ = not_in
