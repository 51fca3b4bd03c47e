"""From attribute changes to stored and freed objects: what happens to files around the SQL of a flush.

Before it, in this order, so that no lock is held while uploads travel:

1. collect the file fields that new and changed objects carry, and the objects that are deleted;
2. store the staged uploads side by side (:mod:`.pending`);
3. read the refs that the rows give up, under a row lock (:mod:`.giving_up`);
4. judge the claims, which are assigned files, on those locked rows (:mod:`.claims`);
5. promote the staged files in place.

Other listeners and the unit of work itself may decide otherwise afterwards: a delete is taken back or becomes an
UPDATE, an orphan is deleted, an upload is replaced by its thumbnail. So what was given up is freed only *after* the
SQL, if the row really gave it up; and what was stored for a row that does not hold it is freed, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from granite_storage.exceptions import StorageError
from granite_storage.files import StoredFile
from granite_storage.orm.changes import Promotion
from granite_storage.orm.claims import settle_claims
from granite_storage.orm.fields import FileField, file_fields
from granite_storage.orm.freeing import Freeing
from granite_storage.orm.giving_up import Given, given_up
from granite_storage.orm.ledger import Ledger, ledger_of
from granite_storage.orm.pending import Pending, pending_files, store_uploads
from granite_storage.orm.staging import Claim, staged_upload
from granite_storage.orm.watching import note_site, watch

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session, UOWTransaction

__all__ = ["FileFlush", "states_of"]


@dataclass(slots=True)
class FileFlush:
    """The file side of one flush of one session."""

    session: Session
    taken: defaultdict[InstanceState[Any], set[str]] = field(default_factory=lambda: defaultdict(set))
    deleted: set[InstanceState[Any]] = field(default_factory=set)
    promotions: list[tuple[Pending, Promotion]] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    moved: list[Given] = field(default_factory=list)

    def run(
        self,
        new: Iterable[InstanceState[Any]] = (),
        changed: Iterable[InstanceState[Any]] = (),
        deleted: Iterable[InstanceState[Any]] = (),
    ) -> None:
        """Do steps 1 to 5 for these objects; what was done before, and fields that did not change, cost nothing."""
        pending: list[Pending] = []
        rows: dict[InstanceState[Any], tuple[FileField, ...]] = {}
        for state in new:
            pending += pending_files(state, self._take(state, file_fields(state.mapper)))
        for state in changed:
            fields = self._take(state, (one for one in file_fields(state.mapper) if _is_changed(state, one)))
            if fields:
                rows[state] = fields
                pending += pending_files(state, fields)
        for state in deleted:
            if state not in self.deleted and (fields := file_fields(state.mapper)):
                rows[state] = fields
            self.deleted.add(state)
        if pending or rows:
            ledger = ledger_of(self.session)
            before = len(ledger.stored)
            try:
                self._apply(ledger, pending, rows)
            except BaseException:  # raised before the flush it rolls nothing back: what it stored is nobody's
                ledger.doomed += ledger.stored[before:]
                del ledger.stored[before:]
                raise

    def finish(self, context: UOWTransaction) -> None:
        """After the SQL: free what the rows really gave up, and what was stored for a row that does not hold it.

        :raises StorageError: if a file moved to another row, but its own kept it after all; if an upload took so long
            that a sweep may take it for left over.
        """
        if not (self.given or self.moved or self.promotions):
            return
        for got in self.moved:
            if not _gave_up(context, got):
                raise StorageError(
                    f"file field {got.field.home}: its object was moved to another row, since its own was to be "
                    "deleted or changed, and then was not; assign the file in a flush of its own, to copy it"
                )
        freeing = Freeing(self.session)
        for got in self.given:
            if _gave_up(context, got):
                freeing.add(got.state.mapper, got.field, got.ref)
        for one, promotion in self.promotions:
            state = promotion.state
            if not _is_written(context, state):
                promotion.undo()
            elif one.field.key not in state.dict or promotion.held:
                continue
            freeing.add(state.mapper, one.field, promotion.ref, in_row=False)
        freeing.moved((got.state.mapper, got.field, got.ref) for got in self.moved)
        freeing.write()
        ledger_of(self.session).check_ages()

    def _take(self, state: InstanceState[Any], fields: Iterable[FileField]) -> tuple[FileField, ...]:
        """Those fields that were not taken before in this flush, or hold a staged file again."""
        before = self.taken[state]
        chosen = tuple(one for one in fields if one.key not in before or _is_staged(state, one))
        before.update(one.key for one in chosen)
        return chosen

    def _apply(
        self, ledger: Ledger, pending: list[Pending], rows: dict[InstanceState[Any], tuple[FileField, ...]]
    ) -> None:
        refs = store_uploads(ledger, [one for one in pending if not isinstance(one.upload, Claim)])
        given = given_up(self.session, rows)
        claims = [one for one in pending if isinstance(one.upload, Claim)]
        refs |= settle_claims(self.session, ledger, claims, given, self.moved)
        for mapper in {state.mapper for state in (*rows, *(one.state for one in pending)) if state is not None}:
            connection = self.session.connection(bind_arguments={"mapper": mapper})
            watch(self.session, connection, mapper.tables, file_fields(mapper))
        for one, ref in refs.items():
            assert one.state is not None
            note_site(ledger, self.session.connection(bind_arguments=dict(one.bind_arguments)), one)
            promotion = Promotion(one.state, one.field.key, one.file, one.upload, ref)
            self.promotions.append((one, promotion))
            ledger.promotions.append(promotion)
            one.file._value = ref
        self.given += given.values()


def states_of(objects: Iterable[object], only: Iterable[object] | None) -> Iterator[InstanceState[Any]]:
    """The states of objects that have file fields; of those in ``only`` if a flush was asked for some objects."""
    chosen = None if only is None else {id(one) for one in only}
    for one in objects:
        if chosen is None or id(one) in chosen:
            state = inspect(one)
            if file_fields(state.mapper):
                yield state


def _is_staged(state: InstanceState[Any], one: FileField) -> bool:
    value = state.dict.get(one.key)
    return isinstance(value, StoredFile) and staged_upload(value) is not None


def _is_changed(state: InstanceState[Any], one: FileField) -> bool:
    """Whether the flush writes a field. A field that was set to the object it had loaded is not written."""
    if one.key not in state.committed_state:
        return False
    old, value = state.committed_state[one.key], state.dict.get(one.key)
    return not (isinstance(old, StoredFile) and isinstance(value, StoredFile) and old == value)


def _is_written(context: UOWTransaction, state: InstanceState[Any]) -> bool:
    """Whether the flush wrote an object's row, and did not delete it."""
    is_delete, _ = context.states.get(state, (True, False))
    return not is_delete


def _gave_up(context: UOWTransaction, got: Given) -> bool:
    """Whether the flush took an object out of its row."""
    is_delete, only_listed = context.states.get(got.state, (False, True))
    if is_delete and not only_listed:
        return True
    # a deleted object that is only listed was switched: a new one with its key makes an UPDATE of the two
    writer = _switched_to(context, got.state) if is_delete else got.state
    if writer is None or (writer is got.state and only_listed):
        return False
    if got.field.key not in writer.dict:
        return writer is got.state
    value = writer.dict[got.field.key]
    return not (isinstance(value, StoredFile) and value == got.ref)


def _switched_to(context: UOWTransaction, state: InstanceState[Any]) -> InstanceState[Any] | None:
    other: InstanceState[Any]
    for other, (is_delete, _) in context.states.items():
        if not is_delete and other.mapper.base_mapper is state.mapper.base_mapper:
            instance = other.obj()
            if instance is not None and other.mapper.identity_key_from_instance(instance) == state.key:
                return other
    return None
