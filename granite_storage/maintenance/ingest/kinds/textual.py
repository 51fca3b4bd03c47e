"""Text: a column of TEXT or VARCHAR whose text itself becomes the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement

from granite_storage.intake.suffixes import guess_type
from granite_storage.intake.upload import Upload
from granite_storage.maintenance.ingest.fingerprints import TextDigest, digest
from granite_storage.maintenance.ingest.kinds.base import Kind, Row
from granite_storage.maintenance.ingest.old_values import OldValue, spool_value
from granite_storage.maintenance.ingest.whole_files import read_text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.files import StoredFile

__all__ = ["Textual"]


@dataclass(frozen=True, slots=True)
class Textual(Kind):
    """A column of text."""

    @property
    def value(self) -> ColumnElement[Any]:
        return self.table.text(self.conversion.old)

    def digest(self) -> ColumnElement[str]:
        return TextDigest(self.value)

    def read(self, connection: Connection, row: Row) -> OldValue | None:
        return spool_value(connection, self.table, row.key, self.value, row.size, self.conversion.encoding)

    @contextmanager
    def upload(self, row: Row, value: OldValue) -> Iterator[Upload]:
        yield Upload(value.content, row.filename, row.content_type or guess_type(row.filename) or "text/plain")

    def restored(self, file: StoredFile, now: str | None, hints: Sequence[Any]) -> dict[str, Any]:
        if self.is_utf8 and file.checksum == f"sha256:{now}":
            return self.emptied
        text = read_text(file, self.conversion.encoding, self.table.dialect)
        if digest(text) == now:
            return self.emptied
        return {self.conversion.old: text, **self.emptied}
