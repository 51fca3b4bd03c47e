"""The ledger of a transaction: what it did to files, and what becomes of that when it ends.

One ledger belongs to one real ``SessionTransaction``: the root or a savepoint, never a flush's subtransaction. It
is a small state machine, driven by what a session tells::

                       stores, frees                        after_commit
      (no ledger) ───────────────────────▶ OPEN ──────────────────────────────▶ COMMITTED
                                            │                                       │
                        after_transaction_end, no after_commit          after_transaction_end
                                            │                                       │
                                            ▼                                       ▼
                       uploads are staged again;                     savepoint: all of it goes
                       what was stored is doomed;                    to the parent's ledger
                       what was freed is not                         root: SETTLED
                                            │
                       savepoint: the doomed go to the parent's ledger
                       root: SETTLED, unless IN DOUBT

What is freed stands in the outbox, too, written by the same transaction. Only the end of the *root* deletes anything.
SETTLED deletes the doomed and, after a commit, the freed whose outbox rows it gets hold of, each only if no row names
it, asked in a fresh transaction. Two ends delete nothing and leave the decision to the sweep:

* IN DOUBT: the COMMIT was sent (the engine's ``commit`` event) and no ``after_commit`` came back. It may be durable.
* a connection that is still in a transaction of somebody else: an outer transaction decides, later.

A failure while settling is logged and never raised: the user's commit is durable, and the session goes on. Whatever it
kept from being deleted stands in the outbox, or is found by a sweep, which looks at all recent uploads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event

from granite_storage.exceptions import UploadExpiredError
from granite_storage.locations import location_time
from granite_storage.orm.changes import Free, Promotion, Rewind, Store
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import Identity, Source
from granite_storage.orm.settling import mark_undecided, settle
from granite_storage.orm.telling import tell_observers

if TYPE_CHECKING:
    from sqlalchemy import FromClause
    from sqlalchemy.orm import Session, SessionTransaction

    from granite_storage.manager import StorageManager
    from granite_storage.orm.sites import Site

__all__ = [
    "OF_GRACE",
    "Ledger",
    "check_ages",
    "is_too_old",
    "ledger_of",
    "mark_committed",
    "reserve",
    "transaction_begun",
    "transaction_ended",
]

_LEDGERS = "granite_storage.ledgers"
OF_GRACE = 0.8
"""How much of the grace period a transaction may let pass between its first upload and its commit."""
# How many freed objects a ledger remembers at most, so that a bulk DELETE of millions of rows fits into memory and the
# commit after it does not delete for hours. The rest stand in the outbox, and a sweep deletes them.
_REMEMBERED = 10_000
_open: WeakSet[Ledger] = WeakSet()
_opening = threading.Lock()
_commit_sent: WeakSet[Connection] = WeakSet()
_watched: WeakSet[Engine] = WeakSet()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ledger:
    """What one transaction did to files."""

    promotions: list[Promotion | Rewind] = field(default_factory=list)
    stored: list[Store] = field(default_factory=list)
    freed: list[Free] = field(default_factory=list)
    doomed: list[Store] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    sources: dict[Source, None] = field(default_factory=dict)
    sites: dict[tuple[StorageManager, str, Site], None] = field(default_factory=dict)
    """Where the rows are that name the objects it stored, by policy."""
    written: set[FromClause] = field(default_factory=set)
    adopted: set[tuple[StorageManager, Identity]] = field(default_factory=set)
    oldest: dict[StorageManager, str] = field(default_factory=dict)
    """The location of each manager's oldest upload that it stored or adopted."""
    committed: bool = False

    def watch(self, connection: Connection) -> None:
        """Notice whether a COMMIT is sent over a connection, and whether it is still in use at the end."""
        if connection not in self.connections:
            self.connections.append(connection)
            _commit_sent.discard(connection)
            if connection.engine not in _watched:
                _watched.add(connection.engine)
                for name in ("commit", "commit_twophase", "prepare_twophase"):
                    event.listen(connection.engine, name, _note_commit_sent)

    @property
    def in_doubt(self) -> bool:
        """Whether a COMMIT was sent whose outcome nobody knows."""
        return not self.committed and any(connection in _commit_sent for connection in self.connections)

    @property
    def undecided(self) -> bool:
        """Whether an outer transaction, not ours, still decides."""
        return any(not connection.closed and connection.in_transaction() for connection in self.connections)

    def holds(self, manager: StorageManager, identity: Identity) -> bool:
        """Whether an object is this transaction's, which may yet be rolled back: stored, adopted or doomed by it."""
        if (manager, identity) in self.adopted:
            return True
        changes = (*self.stored, *self.doomed)
        return any(change.manager is manager and manager.identity(change.ref) == identity for change in changes)

    def note_age(self, manager: StorageManager, location: str) -> None:
        """Remember an upload that was stored or adopted, if it is the oldest."""
        made = location_time(location)
        before = self.oldest.get(manager)
        if made is not None and (before is None or made < (location_time(before) or made)):
            self.oldest[manager] = location

    def free(self, freed: Iterable[Free]) -> None:
        """Remember what was freed, to delete it after the commit; if that is too much the outbox remembers the rest."""
        for one in freed:
            if len(self.freed) < _REMEMBERED or outbox_of(one.site.metadata) is None:
                self.freed.append(one)

    def undo(self) -> None:
        """The transaction did not commit: stage its uploads again, doom what it stored."""
        for promotion in reversed(self.promotions):
            promotion.undo()
        self.doomed += self.stored
        self.promotions, self.stored, self.freed, self.oldest = [], [], [], {}

    def undo_unless_committed(self) -> None:
        """The transaction is over."""
        if not self.committed:
            self.undo()

    def hand_to(self, parent: Ledger) -> None:
        """A savepoint ended: its parent answers for the rest."""
        parent.promotions += self.promotions
        parent.stored += self.stored
        parent.free(self.freed)
        parent.doomed += self.doomed
        parent.sources |= self.sources
        parent.sites |= self.sites
        parent.written |= self.written
        parent.adopted |= self.adopted
        for manager, location in self.oldest.items():
            parent.note_age(manager, location)
        for connection in self.connections:
            if connection not in parent.connections:
                parent.connections.append(connection)

    def check_ages(self) -> None:
        """Refuse to commit what a sweep may soon take for left over.

        :raises UploadExpiredError: naming the upload's age and the limit (seconds).
        """
        for manager, location in self.oldest.items():
            if is_too_old(manager, location):
                limit = manager.grace * OF_GRACE
                raise UploadExpiredError(
                    f"the transaction holds the upload {location!r}, which was stored more than "
                    f"{limit.total_seconds():.0f} seconds ago, {OF_GRACE} of the manager's grace period, after which "
                    "a sweep deletes uploads that no committed row names; roll back and try again, commit sooner "
                    "after an upload, or raise StorageManager(grace=...)"
                )


def is_too_old(manager: StorageManager, location: str) -> bool:
    """Whether an object is so old that a sweep may soon take it for left over, if no committed row names it."""
    made = location_time(location)
    return made is not None and datetime.now(UTC) - made > manager.grace * OF_GRACE


def ledger_of(session: Session) -> Ledger:
    """The ledger of the session's current real transaction, made on first use."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None:
        transaction = session.begin()
    ledgers: dict[SessionTransaction, Ledger] = session.info.setdefault(_LEDGERS, {})
    return ledgers.get(transaction) or _opened(ledgers, transaction)


def reserve(session: Session, manager: StorageManager, identity: Identity) -> bool:
    """Reserve an object for adoption by this session's transaction; False if it is another open transaction's."""
    own = set(session.info.get(_LEDGERS, {}).values())
    ledger = ledger_of(session)
    with _opening:
        if any(other.holds(manager, identity) for other in _open if other not in own and other is not ledger):
            return False
        ledger.adopted.add((manager, identity))
    return True


def _opened(ledgers: dict[SessionTransaction, Ledger], transaction: SessionTransaction) -> Ledger:
    ledger = ledgers[transaction] = Ledger()
    with _opening:
        _open.add(ledger)
    return ledger


def mark_committed(session: Session) -> None:
    """``after_commit``: the current real transaction is durable, or its savepoint released."""
    ledgers = session.info.get(_LEDGERS)
    if ledgers:
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction in ledgers:
            ledgers[transaction].committed = True


def transaction_begun(session: Session, transaction: SessionTransaction) -> None:
    """``after_transaction_create``: when a root begins, a ledger that is still there is one of a root that never ended.

    A root whose connection could not be given back (the task was cancelled while it waited for that) ends without
    ``after_transaction_end``. What it did is the sweep's to judge; its uploads are staged again.
    """
    if transaction.parent is None:
        for ledger in _cut_off(session):
            ledger.undo_unless_committed()
            _close(ledger)


def check_ages(session: Session) -> None:
    """``before_commit``: refuse if an upload of the transaction, savepoints included, is too old."""
    for ledger in session.info.get(_LEDGERS, {}).values():
        ledger.check_ages()


def transaction_ended(session: Session, transaction: SessionTransaction) -> None:
    """``after_transaction_end``: judge the transaction's ledger, if it has one.

    Only what is no ``Exception`` is raised from here, such as the cancellation of a task: the transaction has ended by
    then, the session can begin another, and what was not deleted is the sweep's.
    """
    ledgers: dict[SessionTransaction, Ledger] | None = session.info.get(_LEDGERS)
    ledger = ledgers.pop(transaction, None) if ledgers else None
    if ledgers is None or ledger is None:
        return
    in_doubt = ledger.in_doubt
    ledger.undo_unless_committed()
    parent = _real_parent(transaction)
    if parent is not None:
        ledger.hand_to(ledgers.get(parent) or _opened(ledgers, parent))
        _close(ledger)
        return
    for child in _cut_off(session):
        child.undo_unless_committed()
        child.hand_to(ledger)
        _close(child)
    if not in_doubt:
        undecided = ledger.undecided
        tell_observers(ledger, durable=not undecided)
        if not undecided:
            settle(ledger)
        else:
            mark_undecided(ledger)
    _close(ledger)


def _close(ledger: Ledger) -> None:
    """A ledger has ended: an exception's traceback may keep it alive, and what it adopted from others."""
    with _opening:
        _open.discard(ledger)


def _cut_off(session: Session) -> list[Ledger]:
    """The ledgers, latest first, that are left when none should be: their transactions could not end properly."""
    ledgers: dict[SessionTransaction, Ledger] = session.info.get(_LEDGERS, {})
    left = [*reversed(ledgers.values())]
    ledgers.clear()
    return left


def _real_parent(transaction: SessionTransaction) -> SessionTransaction | None:
    parent = transaction.parent
    while parent is not None and parent.parent is not None and not parent.nested:
        parent = parent.parent
    return parent


def _note_commit_sent(connection: Connection, *args: Any) -> None:
    _commit_sent.add(connection)
