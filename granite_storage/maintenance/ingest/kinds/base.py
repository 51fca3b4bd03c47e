"""What a kind of old column has to know: how its values become uploads, and files its values again."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Text, and_, cast, null, or_

from granite_storage.maintenance.ingest.old_values import OldValue

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.files import StoredFile
    from granite_storage.intake.upload import Upload
    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.maintenance.ingest.keyed_table import Key, KeyedTable
    from granite_storage.refs import StoredObjectRef

__all__ = ["Kind", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that waits for its conversion.

    :param size: about how many bytes its old value has.
    :param filename: what its column of filenames says.
    :param content_type: what is claimed of its content.
    """

    key: Key
    size: int
    filename: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """One old column, read and written as one kind."""

    table: KeyedTable
    conversion: Conversion

    # The way up

    @property
    @abstractmethod
    def value(self) -> ColumnElement[Any]:
        """The old value as it is read."""

    @abstractmethod
    def digest(self) -> ColumnElement[str]:
        """What tells whether the old value is still the one that was read."""

    def waiting(self) -> ColumnElement[bool]:
        """The rows that are to be converted: they have an old value, and no file."""
        return and_(self.unset(), self.value.is_not(None))

    def unset(self) -> ColumnElement[bool]:
        """The rows whose file column holds nothing: NULL, or a NULL of JSON, as 0.1.0 wrote."""
        column = self.table.column(self.conversion.new)
        return or_(column.is_(None), cast(column, Text()) == "null" if self.json else column == "null")

    @property
    def json(self) -> bool:
        """Whether the database has a type of its own for JSON, which is not compared with text."""
        return self.table.dialect == "postgresql"

    @abstractmethod
    def read(self, connection: Connection, row: Row) -> OldValue | None:
        """Read a row's old value; None if it is gone.

        :raises StorageError: if it is nothing that could be converted.
        """

    @abstractmethod
    def upload(self, row: Row, value: OldValue) -> AbstractContextManager[Upload]:
        """The upload that a value becomes; in a thread of the manager's."""

    def finished(self, ref: StoredObjectRef, value: OldValue) -> StoredObjectRef:
        """The ref that is written into the row."""
        return ref

    # The way back

    def returning(self) -> ColumnElement[bool]:
        """The rows whose files go back."""
        column = self.table.column(self.conversion.new)
        return and_(column.is_not(None), cast(column, Text()) != "null" if self.json else column != "null")

    def hints(self) -> tuple[ColumnElement[Any], ...]:
        """What else :meth:`restored` has to know of a row."""
        return ()

    @abstractmethod
    def restored(self, file: StoredFile, now: str | None, hints: Sequence[Any]) -> dict[str, Any]:
        """What a row gets in the place of its file: the values of columns by name; in a thread of the manager's.

        The file column itself becomes NULL; the old one is left out where it still says the same.

        :param now: what :meth:`digest` says of the old value.
        :param hints: what :meth:`hints` asked for.
        :raises StorageError: if the file is missing, damaged, or cannot be such a value.
        """

    @property
    def emptied(self) -> dict[str, Any]:
        """The values of a row that gives its file up."""
        return {self.conversion.new: null()}

    @property
    def is_utf8(self) -> bool:
        """Whether the database's text and the files are encoded alike."""
        return codecs.lookup(self.conversion.encoding).name == "utf-8"
