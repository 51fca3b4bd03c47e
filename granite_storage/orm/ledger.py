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

Only the end of the *root* deletes anything. SETTLED deletes the doomed and, after a commit, the freed, each only if no
row names it, asked in a fresh transaction. Two ends delete nothing and leave the decision to the sweep:

* IN DOUBT: the COMMIT was sent (the engine's ``commit`` event) and no ``after_commit`` came back. It may be durable.
* a connection that is still in a transaction of somebody else: an outer transaction decides, later.

A failure while settling is logged and never raised: the user's commit is durable, and the session goes on.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event

from granite_storage.deletion import delete_objects
from granite_storage.orm.changes import Free, Promotion, Store
from granite_storage.orm.references import Identity, Source, named

if TYPE_CHECKING:
    from sqlalchemy import FromClause
    from sqlalchemy.orm import Session, SessionTransaction

    from granite_storage.manager import StorageManager

__all__ = ["Ledger", "ledger_of", "mark_committed", "reserve", "transaction_ended"]

_LEDGERS = "granite_storage.ledgers"
_log = logging.getLogger("granite_storage")
_open: WeakSet[Ledger] = WeakSet()
_opening = threading.Lock()
_commit_sent: WeakSet[Connection] = WeakSet()
_watched: WeakSet[Engine] = WeakSet()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ledger:
    """What one transaction did to files."""

    promotions: list[Promotion] = field(default_factory=list)
    stored: list[Store] = field(default_factory=list)
    freed: list[Free] = field(default_factory=list)
    doomed: list[Store] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    sources: dict[Source, None] = field(default_factory=dict)
    written: set[FromClause] = field(default_factory=set)
    adopted: set[tuple[StorageManager, Identity]] = field(default_factory=set)
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

    def undo(self) -> None:
        """The transaction did not commit: stage its uploads again, doom what it stored."""
        for promotion in reversed(self.promotions):
            promotion.undo()
        self.doomed += self.stored
        self.promotions, self.stored, self.freed = [], [], []

    def hand_to(self, parent: Ledger) -> None:
        """A savepoint ended: its parent answers for the rest."""
        parent.promotions += self.promotions
        parent.stored += self.stored
        parent.freed += self.freed
        parent.doomed += self.doomed
        parent.sources |= self.sources
        parent.written |= self.written
        parent.adopted |= self.adopted
        for connection in self.connections:
            if connection not in parent.connections:
                parent.connections.append(connection)

    def settle(self) -> None:
        """The root transaction ended, and how is known: delete what is nobody's now."""
        changes: list[Store | Free] = [*self.freed, *self.doomed]
        idle = [one for one in self.connections if not one.closed]  # and in no transaction: see undecided
        for manager in {change.manager for change in changes}:
            refs = {manager.identity(change.ref): change.ref for change in changes if change.manager is manager}
            try:
                for identity in named(manager, refs, self.sources, written=self.written, idle=idle):
                    del refs[identity]
                delete_objects(manager, refs.values())
            except Exception:  # noqa: BLE001 - the user's commit is durable and must not seem to fail
                _log.warning(
                    "%d objects that a transaction left over were not deleted; the sweep will", len(refs), exc_info=True
                )


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


def transaction_ended(session: Session, transaction: SessionTransaction) -> None:
    """``after_transaction_end``: judge the transaction's ledger, if it has one."""
    ledgers: dict[SessionTransaction, Ledger] | None = session.info.get(_LEDGERS)
    ledger = ledgers.pop(transaction, None) if ledgers else None
    if ledgers is None or ledger is None:
        return
    in_doubt = ledger.in_doubt
    if not ledger.committed:
        ledger.undo()
    parent = _real_parent(transaction)
    if parent is not None:
        ledger.hand_to(ledgers.get(parent) or _opened(ledgers, parent))
    elif not in_doubt and not ledger.undecided:
        ledger.settle()


def _real_parent(transaction: SessionTransaction) -> SessionTransaction | None:
    parent = transaction.parent
    while parent is not None and parent.parent is not None and not parent.nested:
        parent = parent.parent
    return parent


def _note_commit_sent(connection: Connection, *args: Any) -> None:
    _commit_sent.add(connection)
