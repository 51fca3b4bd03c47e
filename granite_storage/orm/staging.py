"""Assignment: what is assigned to a file field becomes a staged file. No byte is read or written here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO

from granite_storage.exceptions import UnassignableError
from granite_storage.files import StoredFile
from granite_storage.intake.coerce import coerce
from granite_storage.intake.upload import Upload
from granite_storage.orm.home import FieldHome
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager

__all__ = ["Claim", "stage", "staged_upload"]


class Claim(Upload):
    """A stored file that was assigned to a field: an upload whose source is that file.

    The flush decides, on locked rows, what becomes of it: no change, a move, an adoption or a copy.
    """

    __slots__ = ("adoptable", "file")

    def __init__(self, file: StoredFile, *, adoptable: bool) -> None:
        self.file = file
        self.adoptable = adoptable  # no field held it when it was assigned, so it may be nobody's yet

    @property
    def filename(self) -> str | None:  # type: ignore[override]
        return self.file.filename

    @property
    def content_type(self) -> str | None:  # type: ignore[override]
        return self.file.content_type

    @property
    def extra(self) -> dict[str, Any] | None:  # type: ignore[override]
        return dict(self.file.extra) or None

    @property
    def size(self) -> int | None:  # type: ignore[override]
        return self.file.size

    @property
    def identity(self) -> int:
        return id(self.file)

    @property
    def rereadable(self) -> bool:  # type: ignore[override]
        return True

    def open(self) -> AbstractContextManager[BinaryIO]:
        return self.file.open()

    def rewind(self) -> None:
        pass

    def buffer(self) -> None:
        pass


def stage(home: FieldHome, value: Any, old: Any) -> StoredFile | None:
    """What a file field holds after ``value`` was assigned to it.

    :param old: what it held before, where that is known.
    :raises UnassignableError: if a file field does not take such a value, saying what it takes.
    """
    if value is None or value is old:
        return value
    if isinstance(value, StoredFile):
        if isinstance(value._value, Upload):
            return StoredFile(home, value._value)
        if isinstance(old, StoredFile) and old == value:
            return old
        return StoredFile(home, Claim(value, adoptable=not isinstance(value._home, FieldHome)))
    if isinstance(value, StoredObjectRef):
        if isinstance(old, StoredFile) and old == value:
            return old
        return StoredFile(home, Claim(StoredFile(_Referred(home), value), adoptable=True))
    if isinstance(value, Mapping):
        raise UnassignableError(
            f"file field {home} takes no dict: a ref that came in from outside could name anybody's object; "
            "if it comes from your own database, assign manager.file(ref)"
        )
    upload = coerce(value)
    return None if upload is None else StoredFile(home, upload)


def staged_upload(file: StoredFile) -> Upload | None:
    """The upload that waits in a file, or None if it is stored.

    A claim on a file that was un-stored meanwhile, by a rollback, is that file's own upload.
    """
    upload = file._value
    while isinstance(upload, Claim) and isinstance(upload.file._value, Upload):
        upload = upload.file._value
    return upload if isinstance(upload, Upload) else None


class _Referred:
    """The home of a bare ref that was assigned to a field: the field's manager, but not the field."""

    __slots__ = ("_field",)

    def __init__(self, field: FieldHome) -> None:
        self._field = field

    @property
    def manager(self) -> StorageManager:
        return self._field.manager
