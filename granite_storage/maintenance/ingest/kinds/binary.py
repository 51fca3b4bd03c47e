"""Bytes: a column of BYTEA, BLOB or another binary type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement

from granite_storage.intake.upload import Upload
from granite_storage.maintenance.ingest.fingerprints import BytesDigest, digest
from granite_storage.maintenance.ingest.kinds.base import Kind, Row
from granite_storage.maintenance.ingest.old_values import OldValue, spool_value
from granite_storage.maintenance.ingest.whole_files import read_whole

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.files import StoredFile

__all__ = ["Binary"]


@dataclass(frozen=True, slots=True)
class Binary(Kind):
    """A column of bytes."""

    @property
    def value(self) -> ColumnElement[Any]:
        return self.table.column(self.conversion.old)

    def digest(self) -> ColumnElement[str]:
        return BytesDigest(self.value)

    def read(self, connection: Connection, row: Row) -> OldValue | None:
        return spool_value(connection, self.table, row.key, self.value, row.size, None)

    @contextmanager
    def upload(self, row: Row, value: OldValue) -> Iterator[Upload]:
        yield Upload(value.content, row.filename, row.content_type)

    def restored(self, file: StoredFile, now: str | None, hints: Sequence[Any]) -> dict[str, Any]:
        if file.checksum == f"sha256:{now}":
            return self.emptied
        content = read_whole(file)
        if digest(content) == now:
            return self.emptied
        return {self.conversion.old: content, **self.emptied}
