"""The members of a ref as SQL expressions.

Each compiles to fixed SQL text of ours, not to what SQLAlchemy makes of a JSON index, which differs between 2.0 and
2.1: an expression index serves a query only if both are spelled the same, this year and next.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Boolean, String, literal, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = [
    "Backend",
    "Checksum",
    "ContentType",
    "CreatedAt",
    "ExtraMembers",
    "Filename",
    "Location",
    "RefMember",
    "Size",
    "SizeAsText",
    "StorageKey",
    "TellsLocation",
    "WholeSize",
    "portable_json",
]


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


class StorageKey(RefMember):
    type, member, inherit_cache = String(), "storage_key", True


class Backend(RefMember):
    type, member, inherit_cache = String(), "backend", True


class Location(RefMember):
    type, member, inherit_cache = String(), "location", True


class Checksum(RefMember):
    type, member, inherit_cache = String(), "checksum", True


class ContentType(RefMember):
    type, member, inherit_cache = String(), "content_type", True


class Filename(RefMember):
    type, member, inherit_cache = String(), "original_filename", True


class CreatedAt(RefMember):
    type, member, inherit_cache = _IsoDateTime(), "created_at", True


class Size(RefMember):
    type, member, inherit_cache = BigInteger(), "size", True


@compiles(RefMember)
def _arrow(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    text = f"({compiler.process(element.clauses, **kw)} ->> '{element.member}')"
    return f"(CAST({text} AS BIGINT))" if isinstance(element, Size) else text


@compiles(RefMember, "sqlite")
def _json_extract(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **kw)}, '$.{element.member}')"


@compiles(RefMember, "mysql")
@compiles(RefMember, "mariadb")
def _json_value(element: RefMember, compiler: SQLCompiler, **kw: Any) -> str:
    operand = compiler.process(element.clauses, **kw)
    returning = "" if getattr(compiler.dialect, "is_mariadb", False) else " RETURNING CHAR(2048)"
    text = f"JSON_VALUE({operand}, '$.{element.member}'{returning})"
    return f"CAST({text} AS SIGNED)" if isinstance(element, Size) else text


class SizeAsText(RefMember):
    """The size as it stands there, with no cast, which on PostgreSQL fails for all rows if one of them holds no number.

    On SQLite it is a number where it is one.
    """

    type, member, inherit_cache = String(), "size", True


class TellsLocation(RefMember):
    """Whether the location is a text, and not an empty one; not true where it is anything else."""

    type, member, inherit_cache = Boolean(), "location", True


@compiles(TellsLocation)
def _tells(element: TellsLocation, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    return f"(jsonb_typeof({column} -> 'location') = 'string' AND {column} ->> 'location' <> '')"


@compiles(TellsLocation, "sqlite")
def _tells_sqlite(element: TellsLocation, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    return f"(json_type({column}, '$.location') = 'text' AND {_json_extract(element, compiler, **kw)} <> '')"


@compiles(TellsLocation, "mysql")
@compiles(TellsLocation, "mariadb")
def _tells_mysql(element: TellsLocation, compiler: SQLCompiler, **kw: Any) -> str:
    location = f"JSON_EXTRACT({compiler.process(element.clauses, **kw)}, '$.location')"
    return f"(JSON_TYPE({location}) = 'STRING' AND JSON_UNQUOTE({location}) <> '')"


class WholeSize(RefMember):
    """The size where it is a whole number from 0 on; NULL where it is anything else."""

    type, member, inherit_cache = BigInteger(), "size", True


@compiles(WholeSize)
def _whole(element: WholeSize, compiler: SQLCompiler, **kw: Any) -> str:
    text = _arrow(element, compiler, **kw)
    return f"(CASE WHEN {text} ~ '^[0-9]{{1,18}}$' THEN CAST({text} AS BIGINT) END)"


@compiles(WholeSize, "sqlite")
def _whole_sqlite(element: WholeSize, compiler: SQLCompiler, **kw: Any) -> str:
    number = _json_extract(element, compiler, **kw)
    return f"(CASE WHEN typeof({number}) = 'integer' AND {number} >= 0 THEN {number} END)"


@compiles(WholeSize, "mysql")
@compiles(WholeSize, "mariadb")
def _whole_mysql(element: WholeSize, compiler: SQLCompiler, **kw: Any) -> str:
    text = _json_value(element, compiler, **kw)
    return f"(CASE WHEN {text} REGEXP '^[0-9]{{1,18}}$' THEN CAST({text} AS SIGNED) END)"


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
