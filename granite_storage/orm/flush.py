"""From attribute changes to stored and freed objects: what happens to files before a flush writes rows.

In this order, so that no lock is held while uploads travel:

1. collect the file fields that new and changed objects carry, and the objects that are deleted;
2. store the staged uploads side by side (:mod:`.pending`);
3. read the refs that the rows give up, under a row lock (:mod:`.giving_up`);
4. judge the claims, which are assigned files, on those locked rows (:mod:`.claims`);
5. promote the staged files in place. What is still given up is freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from granite_storage.orm.changes import Free, Promotion
from granite_storage.orm.claims import settle_claims
from granite_storage.orm.fields import FileField, file_fields
from granite_storage.orm.giving_up import given_up
from granite_storage.orm.ledger import Ledger, ledger_of
from granite_storage.orm.pending import Pending, pending_files, store_uploads
from granite_storage.orm.references import sources_of
from granite_storage.orm.staging import Claim

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session

__all__ = ["FileFlush", "states_of"]


@dataclass(slots=True)
class FileFlush:
    """The file side of one flush of one session."""

    session: Session
    seen: set[InstanceState[Any]] = field(default_factory=set)
    seen_deleted: set[InstanceState[Any]] = field(default_factory=set)

    def run(
        self,
        new: Iterable[InstanceState[Any]] = (),
        changed: Iterable[InstanceState[Any]] = (),
        deleted: Iterable[InstanceState[Any]] = (),
    ) -> None:
        """Do steps 1 to 5 for these objects; those whose file fields did not change cost nothing."""
        pending: list[Pending] = []
        rows: dict[InstanceState[Any], tuple[FileField, ...]] = {}
        for state in new:
            self.seen.add(state)
            pending += pending_files(state, file_fields(state.mapper))
        for state in changed:
            self.seen.add(state)
            fields = tuple(one for one in file_fields(state.mapper) if one.key in state.committed_state)
            if fields:
                rows[state] = fields
                pending += pending_files(state, fields)
        for state in deleted:
            self.seen_deleted.add(state)
            if fields := file_fields(state.mapper):
                rows[state] = fields
        if pending or rows:
            ledger = ledger_of(self.session)
            before = len(ledger.stored)
            try:
                self._apply(ledger, pending, rows)
            except BaseException:  # raised before the flush it rolls nothing back: what it stored is nobody's
                ledger.doomed += ledger.stored[before:]
                del ledger.stored[before:]
                raise

    def _apply(
        self, ledger: Ledger, pending: list[Pending], rows: dict[InstanceState[Any], tuple[FileField, ...]]
    ) -> None:
        refs = store_uploads(ledger, [one for one in pending if not isinstance(one.upload, Claim)])
        given = given_up(self.session, rows)
        claims = [one for one in pending if isinstance(one.upload, Claim)]
        refs |= settle_claims(self.session, ledger, claims, given)
        self._watch(ledger, {*rows, *(one.state for one in pending)})
        for one, ref in refs.items():
            ledger.promotions.append(Promotion(one.file, one.upload, ref))
            one.file._value = ref
        for got in given.values():
            ledger.freed.append(Free(got.field.home.manager, got.field.column.table.metadata, got.ref))

    def _watch(self, ledger: Ledger, states: Iterable[InstanceState[Any]]) -> None:
        """Remember where to ask, once the transaction has ended, which rows name what."""
        for mapper in {state.mapper for state in states}:
            connection = self.session.connection(bind_arguments={"mapper": mapper})
            ledger.watch(connection)
            for manager in {one.home.manager for one in file_fields(mapper)}:
                ledger.sources |= dict.fromkeys(sources_of(self.session, connection, manager))


def states_of(objects: Iterable[object], only: Iterable[object] | None) -> Iterator[InstanceState[Any]]:
    """The states of objects that have file fields; of those in ``only`` if a flush was asked for some objects."""
    chosen = None if only is None else {id(one) for one in only}
    for one in objects:
        if chosen is None or id(one) in chosen:
            state = inspect(one)
            if file_fields(state.mapper):
                yield state
