"""The small frozen objects that a transaction's ledger carries: what a flush did to files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from granite_storage.manager import StorageManager

__all__ = ["Free", "Promotion", "Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """An object that was stored, or copied, for a row that is not committed yet."""

    manager: StorageManager
    metadata: MetaData
    ref: StoredObjectRef


@dataclass(frozen=True, slots=True)
class Free:
    """An object that a row stopped naming; nobody's once the change is durable."""

    manager: StorageManager
    metadata: MetaData
    ref: StoredObjectRef


@dataclass(frozen=True, slots=True)
class Promotion:
    """A file that went from staged to stored, and the upload that a rollback puts back into it."""

    file: StoredFile
    upload: Upload
    ref: StoredObjectRef

    def undo(self) -> None:
        """Stage the file again, so that the next flush stores it anew."""
        if self.file._value is self.ref:
            self.file._value = self.upload
