"""Bugs to plant in the library, each a mistake that somebody could make: what the histories must find."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from granite_storage.deletion import delete_objects
from granite_storage.maintenance import sweep
from granite_storage.orm import claims, discarding, freeing, session_events
from granite_storage.orm.changes import Promotion
from granite_storage.orm.ledger import Ledger

__all__ = ["BUGS", "Plant"]

Plant = Callable[[pytest.MonkeyPatch], None]


def a_release_deletes_what_was_freed(patch: pytest.MonkeyPatch) -> None:
    hand_to = Ledger.hand_to

    def planted(self: Ledger, parent: Ledger) -> None:
        if self.committed:
            for one in self.freed:
                delete_objects(one.manager, [one.ref])
        hand_to(self, parent)

    patch.setattr(Ledger, "hand_to", planted)


def a_rollback_stages_nothing_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Promotion, "undo", lambda self: None)


def a_rollback_of_a_savepoint_forgets_what_its_parent_freed(patch: pytest.MonkeyPatch) -> None:
    hand_to = Ledger.hand_to

    def planted(self: Ledger, parent: Ledger) -> None:
        if not self.committed:
            parent.freed.clear()
        hand_to(self, parent)

    patch.setattr(Ledger, "hand_to", planted)


def a_rollback_goes_on_to_free(patch: pytest.MonkeyPatch) -> None:
    undo = Ledger.undo

    def planted(self: Ledger) -> None:
        for one in self.freed:
            delete_objects(one.manager, [one.ref])
        undo(self)

    patch.setattr(Ledger, "undo", planted)


def what_was_stored_for_nothing_is_kept(patch: pytest.MonkeyPatch) -> None:
    undo = Ledger.undo

    def planted(self: Ledger) -> None:
        undo(self)
        self.doomed.clear()

    patch.setattr(Ledger, "undo", planted)


def the_outbox_is_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freeing, "write_freed", lambda *args: None)


def a_claim_shares_the_object(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "copy_of", lambda one, file: file.ref)


def a_claim_always_moves(patch: pytest.MonkeyPatch) -> None:
    """An object is given to each who claims it, since it is to be given up: the second claimant gets it as well."""
    settle_claims = claims.settle_claims

    def planted(session: Any, ledger: Any, wanted: Any, given: Any, moved: Any) -> Any:
        before = dict(given)
        refs = settle_claims(session, ledger, wanted, given, moved)
        for one in refs:
            got = before.get(claims._object_of(one))
            if got is not None and got.field.home.policy == one.policy:
                refs[one] = got.ref
        return refs

    patch.setattr("granite_storage.orm.flush.settle_claims", planted)


def a_lost_answer_is_a_rollback_and_no_row_is_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "in_doubt", property(lambda self: False))
    patch.setattr(discarding, "named", lambda *args: ())


def a_delete_that_failed_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    remove = discarding.remove

    def planted(connection: Any, outbox: Any, failed: Any) -> None:
        remove(connection, outbox, [row.id for row, _, _ in failed])

    patch.setattr(discarding, "postpone", planted)


def bulk_statements_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    run_bulk = session_events.run_bulk
    patch.setattr(session_events, "run_bulk", lambda execution: run_bulk(execution) if execution.is_insert else None)


def a_sweep_takes_young_uploads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep, "horizon", lambda *args: datetime.now(UTC))


BUGS: tuple[Plant, ...] = (
    a_release_deletes_what_was_freed,
    a_rollback_stages_nothing_again,
    a_rollback_of_a_savepoint_forgets_what_its_parent_freed,
    a_rollback_goes_on_to_free,
    what_was_stored_for_nothing_is_kept,
    the_outbox_is_not_written,
    a_claim_shares_the_object,
    a_claim_always_moves,
    a_lost_answer_is_a_rollback_and_no_row_is_asked,
    a_delete_that_failed_is_forgotten,
    bulk_statements_are_not_looked_at,
    a_sweep_takes_young_uploads,
)
