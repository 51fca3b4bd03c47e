"""How long a statement may be: MariaDB and MySQL take none above ``max_allowed_packet``, and close the connection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from granite_storage.exceptions import InvalidUploadError

__all__ = ["check_packet", "largest_packet"]

_ROOM = 64 * 1024  # bytes of a statement beside the value
_ESCAPED = (b"\0", b"\n", b"\r", b"\x1a", b'"', b"'", b"\\")  # two bytes each in a statement of pymysql


def largest_packet(connection: Connection) -> int | None:
    """The largest statement that a server of MariaDB or MySQL takes, in bytes; None elsewhere."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return None
    return int(connection.scalar(text("SELECT @@max_allowed_packet")) or 0)


def check_packet(value: Any, largest: int | None) -> None:
    """Refuse a value that no statement can hold.

    :raises InvalidUploadError: naming the limit.
    """
    if largest is None or not isinstance(value, (bytes, str)):
        return
    content = value.encode() if isinstance(value, str) else value
    size = len(content) + sum(map(content.count, _ESCAPED)) + _ROOM
    if size > largest:
        raise InvalidUploadError(
            f"a statement with its content has about {size} bytes, more than this server takes "
            f"(max_allowed_packet={largest}); raise that"
        )
