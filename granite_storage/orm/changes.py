"""The small frozen objects that a transaction's ledger carries: what a flush did to files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.orm import InstanceState

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

    state: InstanceState[Any]
    key: str
    file: StoredFile
    upload: Upload
    ref: StoredObjectRef

    @property
    def held(self) -> bool:
        """Whether the field still holds that very file."""
        return self.state.dict.get(self.key) is self.file

    def undo(self) -> None:
        """Stage the file again, so that the next flush stores it anew; and what a refresh put in its place."""
        loaded = self.state.dict.get(self.key)
        for file in (self.file, loaded):
            if isinstance(file, StoredFile) and not file.staged and file == self.ref:
                file._value = self.upload
