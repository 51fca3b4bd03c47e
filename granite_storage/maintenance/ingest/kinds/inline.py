"""Inline text: ``{"legacy_inline_text": ...}``, which granite-storage 0.1.0 wrote into ref columns.

It becomes a file in its own column. What else the JSON object held is kept in the ref, by which the way back knows,
too, which files were inline text; real refs stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ColumnElement, type_coerce

from granite_storage.exceptions import InvalidUploadError
from granite_storage.frozen import thaw
from granite_storage.intake.suffixes import guess_type
from granite_storage.intake.upload import Upload
from granite_storage.maintenance.ingest.fingerprints import TextDigest, digest
from granite_storage.maintenance.ingest.kinds.base import Kind, Row
from granite_storage.maintenance.ingest.old_values import OldValue, read_value
from granite_storage.maintenance.ingest.whole_files import read_text
from granite_storage.orm.members import ExtraMembers, portable_json

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.files import StoredFile
    from granite_storage.refs import StoredObjectRef

__all__ = ["INLINE_MEMBERS", "INLINE_TEXT", "Inline"]

INLINE_TEXT = "legacy_inline_text"
"""The member that 0.1.0 wrote."""

INLINE_MEMBERS = "inline_text_members"
"""The member of a ref's ``extra`` that says that its file was inline text, and what else stood beside it."""


@dataclass(frozen=True, slots=True)
class Inline(Kind):
    """A column of refs, some of whose values are inline text."""

    @property
    def value(self) -> ColumnElement[Any]:
        return self.table.text(self.conversion.new)

    def digest(self) -> ColumnElement[str]:
        return TextDigest(self.value)

    def waiting(self) -> ColumnElement[bool]:
        column = self.table.column(self.conversion.new)
        text: ColumnElement[Any] = type_coerce(column, portable_json())[INLINE_TEXT].as_string()
        return text.is_not(None)

    def read(self, connection: Connection, row: Row) -> OldValue | None:
        found = read_value(connection, self.table, row.key, self.value)
        return None if found is None else OldValue(_as_text(found), digest(found))

    @contextmanager
    def upload(self, row: Row, value: OldValue) -> Iterator[Upload]:
        text = _decoded(value)[INLINE_TEXT]
        if not isinstance(text, str):
            raise InvalidUploadError(f"{INLINE_TEXT!r} holds a {type(text).__name__}, which is no text")
        claim = row.content_type or guess_type(row.filename) or "text/plain"
        yield Upload(text.encode(self.conversion.encoding), row.filename, claim)

    def finished(self, ref: StoredObjectRef, value: OldValue) -> StoredObjectRef:
        others = {name: one for name, one in _decoded(value).items() if name != INLINE_TEXT}
        return ref.replace(extra={**thaw(ref.extra or {}), INLINE_MEMBERS: others})

    def returning(self) -> ColumnElement[bool]:
        column = self.table.column(self.conversion.new)
        marked: ColumnElement[Any] = ExtraMembers(column)[INLINE_MEMBERS].as_string()
        return marked.is_not(None)

    def restored(self, file: StoredFile, now: str | None, hints: Sequence[Any]) -> dict[str, Any]:
        text = read_text(file, self.conversion.encoding, "")  # JSON escapes what a text column may not hold
        old = {INLINE_TEXT: text, **thaw(file.extra[INLINE_MEMBERS])}
        native = isinstance(self.table.types[self.conversion.new], JSON) and self.json
        return {self.conversion.new: old if native else json.dumps(old)}


def _as_text(found: str | bytes) -> str:
    return found if isinstance(found, str) else found.decode()


def _decoded(value: OldValue) -> dict[str, Any]:
    assert isinstance(value.content, str)
    found = json.loads(value.content)
    assert isinstance(found, dict)  # or it had no member to be found by
    return found
