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
    from granite_storage.orm.sites import Site

__all__ = ["Free", "Promotion", "Rewind", "Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """An object that was stored, or copied, for a row that is not committed yet."""

    manager: StorageManager
    metadata: MetaData
    ref: StoredObjectRef


@dataclass(frozen=True, slots=True)
class Free:
    """An object that a row stopped naming; nobody's once the change is durable.

    :param site: where the row was, and the outbox is.
    :param source: the field that gave it up, as ``"table.column"``.
    :param by_trigger: whether the database itself writes the outbox.
    :param in_row: whether a row held it; one that was stored for a row, and maybe not written, may yet be named.
    """

    manager: StorageManager
    site: Site
    ref: StoredObjectRef
    source: str
    by_trigger: bool = False
    in_row: bool = True

    @property
    def retained(self) -> float:
        """For how many seconds its policy keeps it."""
        policy = self.manager.policies.get(self.ref.storage_key)
        return 0.0 if policy is None else policy.retain.total_seconds()


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


@dataclass(frozen=True, slots=True)
class Rewind:
    """An upload that a statement stored: a rollback puts its stream back to where it stood, to be given again."""

    upload: Upload

    def undo(self) -> None:
        """Rewind the stream, if it can be; one that cannot says so when it is given again."""
        self.upload.rewind()
