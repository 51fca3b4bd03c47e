"""Old values as they are read: small ones whole, large ones piece by piece into a temporary file."""

from __future__ import annotations

import codecs
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from sqlalchemy import ColumnElement, func, select

from granite_storage.exceptions import InvalidUploadError
from granite_storage.maintenance.ingest.fingerprints import digest

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.maintenance.ingest.keyed_table import Key, KeyedTable

__all__ = ["PIECE", "OldValue", "read_value", "spool_value"]

PIECE = 4 * 2**20
"""How much of a value is fetched at once, in bytes, or characters of a text; MariaDB sends no more than 16 MB."""


@dataclass(frozen=True, slots=True)
class OldValue:
    """A value that was read.

    :param content: a text, or a stream of the bytes that the file is to have, to be closed.
    :param digest: what the database says of it while it is unchanged.
    """

    content: str | BinaryIO
    digest: str

    def close(self) -> None:
        if not isinstance(self.content, str):
            self.content.close()


def read_value(connection: Connection, table: KeyedTable, key: Key, value: ColumnElement[Any]) -> str | bytes | None:
    """A whole value; None if the row or its value is gone.

    :raises InvalidUploadError: if it is neither bytes nor text, as on SQLite it may be.
    """
    found = connection.scalar(select(value).where(table.is_row(key)))
    if isinstance(found, (bytearray, memoryview)):
        return bytes(found)
    if found is None or isinstance(found, (bytes, str)):
        return found
    raise InvalidUploadError(f"it holds a value of type {type(found).__name__}, neither bytes nor text")


def spool_value(
    connection: Connection, table: KeyedTable, key: Key, value: ColumnElement[Any], size: int, encoding: str | None
) -> OldValue | None:
    """The bytes of a value, of a text in an encoding, as a stream that can seek; None if the row or its value is gone.

    :param size: about how many bytes it has; one of more than :data:`PIECE` goes to a temporary file.
    :param encoding: how a text is encoded; None for bytes.
    :raises InvalidUploadError: if it is text where bytes should be, or the other way round.
    :raises UnicodeError: if a text cannot be encoded so.
    """
    if size <= PIECE:
        whole = read_value(connection, table, key, value)
        if whole is None:
            return None
        _check_kind(whole, encoding)
        content = whole if isinstance(whole, bytes) else whole.encode(encoding or "utf-8")
        return OldValue(BytesIO(content), digest(whole))
    spool = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - closed with the value
    try:
        hashed = hashlib.sha256()
        encoder = codecs.getincrementalencoder(encoding or "utf-8")()
        for piece in _pieces(connection, table, key, value):
            _check_kind(piece, encoding)
            if isinstance(piece, str):
                hashed.update(piece.encode())
                spool.write(encoder.encode(piece))
            else:
                hashed.update(piece)
                spool.write(piece)
        if encoding is not None:
            spool.write(encoder.encode("", final=True))
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return OldValue(spool, hashed.hexdigest())


def _pieces(connection: Connection, table: KeyedTable, key: Key, value: ColumnElement[Any]) -> Iterator[bytes | str]:
    start = 1
    while piece := read_value(connection, table, key, func.substr(value, start, PIECE)):
        yield piece
        start += len(piece)


def _check_kind(found: bytes | str, encoding: str | None) -> None:
    if isinstance(found, str) and encoding is None:
        raise InvalidUploadError("it holds text, and bytes are converted: kind='text' converts text")
    if isinstance(found, bytes) and encoding is not None:
        raise InvalidUploadError("it holds bytes, and text is converted: kind='bytes' converts bytes")
