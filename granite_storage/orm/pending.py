"""The staged files of a flush, and how each becomes an object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.orm.changes import Store
from granite_storage.orm.staging import Claim, stage, staged_upload
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.orm import InstanceState

    from granite_storage.manager import StorageManager
    from granite_storage.orm.fields import FileField
    from granite_storage.orm.ledger import Ledger

__all__ = ["Pending", "copy_of", "make_objects", "pending_files", "store_uploads"]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A staged file in a field of an object that is being flushed."""

    state: InstanceState[Any]
    field: FileField
    file: StoredFile
    upload: Upload

    @property
    def manager(self) -> StorageManager:
        """The manager that stores it."""
        return self.field.home.manager

    @property
    def policy(self) -> str:
        """The name of the field's policy."""
        policy = self.field.home.policy
        assert policy is not None
        return policy

    @property
    def metadata(self) -> MetaData:
        """The MetaData of the field's table."""
        return self.field.column.table.metadata


def pending_files(state: InstanceState[Any], fields: Iterable[FileField]) -> Iterator[Pending]:
    """The staged files in some fields of an object."""
    for one in fields:
        file = _value(state, one)
        if file is not None:
            upload = staged_upload(file)
            if upload is None:  # a stored file that came around assignment (make_transient, flag_modified) is a claim
                upload = Claim(file, adoptable=state.key is None)
                file = state.dict[one.key] = StoredFile(one.home, upload)
            yield Pending(state, one, file, upload)


def _value(state: InstanceState[Any], one: FileField) -> StoredFile | None:
    """What a field holds; a value that came around assignment (a default, what a validator gave) is staged now."""
    value = state.dict.get(one.key)
    if value is None and state.key is None and one.key not in state.dict:
        default: Any = one.column.default
        if default is not None and (default.is_scalar or default.is_callable):
            value = default.arg(None) if default.is_callable else default.arg
    if value is not None and not isinstance(value, StoredFile):
        value = state.dict[one.key] = stage(one.home, value, None)
    return value


def store_uploads(ledger: Ledger, pending: Iterable[Pending]) -> dict[Pending, StoredObjectRef]:
    """Store staged uploads side by side; a source that several fields share is read once."""
    by_source: dict[int, list[Pending]] = {}
    for one in pending:
        by_source.setdefault(one.upload.identity, []).append(one)
    groups = list(by_source.values())
    refs = make_objects(ledger, {group[0]: partial(_store, group[0]) for group in groups})
    again = {one: partial(_store_again, one, group[0], refs[group[0]]) for group in groups for one in group[1:]}
    return refs | make_objects(ledger, again)


def make_objects(
    ledger: Ledger, makers: Mapping[Pending, Callable[[], StoredObjectRef]]
) -> dict[Pending, StoredObjectRef]:
    """Run what stores or copies objects, side by side in the manager's pool, and note each in the ledger."""
    refs: dict[Pending, StoredObjectRef] = {}

    def make(one: Pending) -> None:
        refs[one] = ref = makers[one]()
        ledger.stored.append(Store(one.manager, one.metadata, ref))

    for manager in {one.manager: None for one in makers}:
        manager.pool.run_all(partial(make, one) for one in makers if one.manager is manager)
    return refs


def copy_of(one: Pending, file: StoredFile) -> StoredObjectRef:
    """Copy a stored file under the policy of a field."""
    return one.manager.copy(one.policy, file).ref


def _store(one: Pending) -> StoredObjectRef:
    return one.manager.store_upload(one.policy, one.upload)


def _store_again(one: Pending, first: Pending, ref: StoredObjectRef) -> StoredObjectRef:
    """Store a source that was stored for another field, and may be read up, under the name that it has here."""
    file = StoredFile(first.manager, ref)
    if one.upload is first.upload:
        return copy_of(one, file)
    with file.open() as stream:
        upload = Upload(stream, one.upload.filename, one.upload.content_type, one.upload.extra)
        return one.manager.store_upload(one.policy, upload)
