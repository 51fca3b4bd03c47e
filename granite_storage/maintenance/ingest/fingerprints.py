"""What tells in SQL whether a value is still the one that was read: its SHA-256, made by the database.

So a row is switched only if its old value is unchanged, without sending a large value a second time. SQLite has no such
function; a connection gets one of ours (:func:`prepare`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["BytesDigest", "OctetLength", "TextDigest", "digest", "prepare"]

_SQLITE_FUNCTION = "granite_storage_sha256"


def digest(value: bytes | str) -> str:
    """What the database says of a value; text is taken as UTF-8, whatever it is encoded in there.

    >>> digest("a") == digest(b"a")
    True
    """
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def prepare(connection: Connection) -> None:
    """Give a connection to SQLite the function that the others have."""
    if connection.dialect.name == "sqlite":
        raw: Any = connection.connection.dbapi_connection
        raw.create_function(_SQLITE_FUNCTION, 1, _digest_or_null)


def _digest_or_null(value: Any) -> str | None:
    return digest(value) if isinstance(value, (bytes, str)) else None


class BytesDigest(FunctionElement[str]):
    """The SHA-256 of a binary value, in hex."""

    type = String()
    inherit_cache = True


class TextDigest(FunctionElement[str]):
    """The SHA-256 of the UTF-8 of a text, in hex."""

    type = String()
    inherit_cache = True


class OctetLength(FunctionElement[int]):
    """How many bytes a value has in the database."""

    type = BigInteger()
    inherit_cache = True


@compiles(BytesDigest, "postgresql")
def _postgresql_bytes(element: Any, compiler: Any, **kw: Any) -> str:
    return f"encode(sha256({compiler.process(element.clauses, **kw)}), 'hex')"


@compiles(TextDigest, "postgresql")
def _postgresql_text(element: Any, compiler: Any, **kw: Any) -> str:
    return f"encode(sha256(convert_to({compiler.process(element.clauses, **kw)}, 'UTF8')), 'hex')"


@compiles(BytesDigest, "mysql")
@compiles(BytesDigest, "mariadb")
def _mysql_bytes(element: Any, compiler: Any, **kw: Any) -> str:
    return f"SHA2({compiler.process(element.clauses, **kw)}, 256)"


@compiles(TextDigest, "mysql")
@compiles(TextDigest, "mariadb")
def _mysql_text(element: Any, compiler: Any, **kw: Any) -> str:
    return f"SHA2(CONVERT({compiler.process(element.clauses, **kw)} USING utf8mb4), 256)"


@compiles(BytesDigest, "sqlite")
@compiles(TextDigest, "sqlite")
def _sqlite_digest(element: Any, compiler: Any, **kw: Any) -> str:
    return f"{_SQLITE_FUNCTION}({compiler.process(element.clauses, **kw)})"


@compiles(OctetLength)
def _octet_length(element: Any, compiler: Any, **kw: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **kw)})"


@compiles(OctetLength, "sqlite")
def _sqlite_length(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)  # length() of a BLOB reads none of it
    return f"CASE typeof({value}) WHEN 'blob' THEN length({value}) ELSE length(CAST({value} AS BLOB)) END"
