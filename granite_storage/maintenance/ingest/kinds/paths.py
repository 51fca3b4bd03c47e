"""Paths: a column that names files below a root folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, select

from granite_storage.exceptions import InvalidUploadError
from granite_storage.intake.upload import Upload
from granite_storage.maintenance.ingest.fingerprints import TextDigest, digest
from granite_storage.maintenance.ingest.kinds.base import Kind, Row
from granite_storage.maintenance.ingest.old_values import OldValue, read_value
from granite_storage.maintenance.ingest.rooted_files import holds, open_below, write_below

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.files import StoredFile

__all__ = ["Paths"]


@dataclass(frozen=True, slots=True)
class Paths(Kind):
    """A column of paths; an empty one names no file."""

    @property
    def root(self) -> str:
        assert self.conversion.root is not None
        return os.path.abspath(self.conversion.root)

    @property
    def value(self) -> ColumnElement[Any]:
        return self.table.text(self.conversion.old)

    def digest(self) -> ColumnElement[str]:
        return TextDigest(self.value)

    def waiting(self) -> ColumnElement[bool]:
        return and_(self.unset(), self.value.is_not(None), self.value != "")

    def read(self, connection: Connection, row: Row) -> OldValue | None:
        path = read_value(connection, self.table, row.key, self.value)
        if isinstance(path, bytes):
            raise InvalidUploadError("it holds bytes, and no path")
        return None if not path else OldValue(path, digest(path))

    @contextmanager
    def upload(self, row: Row, value: OldValue) -> Iterator[Upload]:
        assert isinstance(value.content, str)
        with open_below(self.root, value.content) as stream:
            yield Upload(stream, row.filename or PurePosixPath(value.content).name, row.content_type)

    def hints(self) -> tuple[ColumnElement[Any], ...]:
        """The row's path; and any path, which shows whether they are absolute."""
        named = select(self.value).where(self.value.is_not(None), self.value != "")
        return self.value, named.limit(1).scalar_subquery()

    def restored(self, file: StoredFile, now: str | None, hints: Sequence[Any]) -> dict[str, Any]:
        path, other = hints
        if path:
            same = holds(self.root, path, file.ref)
            if same is None:  # nothing is there
                write_below(self.root, path, file)
            if same is not False:
                return self.emptied
        # another row may name the file that is there, so it is left alone
        made = write_below(self.root, file.location, file)
        absolute = os.path.isabs(path or other or "")
        return {self.conversion.old: made if absolute else file.location, **self.emptied}
