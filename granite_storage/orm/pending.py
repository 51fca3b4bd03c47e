"""The staged files of a flush, and how each becomes an object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from granite_storage.backends.base import Ability, has_ability
from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.orm.changes import Store
from granite_storage.orm.greenlets import awaiting, run_side_by_side
from granite_storage.orm.staging import Claim, stage, staged_upload
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.orm import InstanceState

    from granite_storage.backends.base import GroupBackend
    from granite_storage.manager import StorageManager
    from granite_storage.orm.fields import FileField
    from granite_storage.orm.ledger import Ledger

__all__ = ["Pending", "copy_of", "default_of", "make_objects", "pending_files", "put_groups", "store_uploads"]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A staged file in a field of an object that is being flushed, or of a row that a statement inserts.

    :param bind_arguments: how the session finds the row's connection.
    :param state: the object's; None for a row of a statement.
    """

    field: FileField
    file: StoredFile
    upload: Upload
    bind_arguments: Mapping[str, Any]
    state: InstanceState[Any] | None = None

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
            yield Pending(one, file, upload, {"mapper": state.mapper}, state)


def _value(state: InstanceState[Any], one: FileField) -> StoredFile | None:
    """What a field holds; a value that came around assignment (a default, what a validator gave) is staged now."""
    value = state.dict.get(one.key)
    if value is None and state.key is None and one.key not in state.dict:
        value = default_of(one)
    if value is not None and not isinstance(value, StoredFile):
        value = state.dict[one.key] = stage(one.home, value, None)
    return value


def default_of(field: FileField) -> Any:
    """What a field's column has by default on Python's side, to be staged; None if nothing."""
    default: Any = field.column.default
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    return default.arg(None) if default.is_callable else default.arg


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
    """Run what stores or copies objects, side by side in the manager's pool, and note each in the ledger.

    Where the backend can group them, they become durable together, when the group ends: no row is written before.
    """
    refs: dict[Pending, StoredObjectRef] = {}
    before = len(ledger.stored)

    def make(one: Pending) -> None:
        refs[one] = ref = makers[one]()
        ledger.stored.append(Store(one.manager, one.metadata, ref))

    for manager in {one.manager: None for one in makers}:
        mine = [one for one in makers if one.manager is manager]
        with put_groups(manager, {one.policy for one in mine}):
            run_side_by_side(manager.pool, [partial(make, one) for one in mine])
    # From here on in the order of the fields, whichever thread was done first.
    ledger.stored[before:] = [Store(one.manager, one.metadata, refs[one]) for one in makers]
    for one in makers:
        ledger.note_age(one.manager, refs[one].location)
    return {one: refs[one] for one in makers}


@contextmanager
def put_groups(manager: StorageManager, policies: Iterable[str]) -> Iterator[None]:
    """A group of puts in each backend of these policies that can group them; raises StorageError at its end.

    None where an AsyncSession waits: the end of a group blocks, and would do so on the event loop.
    """
    if awaiting():
        yield
        return
    with ExitStack() as groups:
        for key in {manager.get_policy(policy).backend_key for policy in policies}:
            backend = manager.backends.get(key)  # where there is none, the put says so
            if has_ability(backend, Ability.GROUP):
                groups.enter_context(cast("GroupBackend", backend).group())
        yield


def copy_of(one: Pending, file: StoredFile) -> StoredObjectRef:
    """Copy a stored file under the policy of a field."""
    return one.manager.copy_object(one.policy, file)


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
