"""Where SQLAlchemy's events about sessions meet the rest: each listener is a line or two.

Session events come for every session; mapper events only for classes that have file fields.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, Session, SessionTransaction

from granite_storage.orm.bulk import run_bulk
from granite_storage.orm.flush import FileFlush, states_of
from granite_storage.orm.ledger import check_ages, mark_committed, transaction_begun, transaction_ended

if TYPE_CHECKING:
    from sqlalchemy import Connection, Result
    from sqlalchemy.orm import InstanceState, ORMExecuteState, UOWTransaction

__all__ = ["hear_later"]

_FLUSH = "granite_storage.flush"
_unheard: WeakSet[Mapper[Any]] = WeakSet()
_hearing = threading.Lock()


def hear_later(mapper: Mapper[Any]) -> None:
    """Give a mapped class that has file fields its listeners with the next flush."""
    _unheard.add(mapper)


@event.listens_for(Session, "before_flush")
def _before_flush(session: Session, context: UOWTransaction, instances: Iterable[object] | None) -> None:
    with _hearing:  # the first flushes of several threads come at once
        while _unheard:
            _hear(_unheard.pop())
    flush = session.info[_FLUSH] = FileFlush(session)
    flush.run(
        new=states_of(session.new, instances),
        changed=states_of(session.dirty, instances),
        deleted=states_of(session.deleted, instances),
    )


@event.listens_for(Session, "after_flush")
def _after_flush(session: Session, context: UOWTransaction) -> None:
    flush: FileFlush | None = session.info.get(_FLUSH)
    if flush is not None:  # the first class with file fields may be made while a session flushes
        flush.finish(context)
        del session.info[_FLUSH]  # it holds the objects of the flush


@event.listens_for(Session, "do_orm_execute")
def _do_orm_execute(execution: ORMExecuteState) -> Result[Any] | None:
    return run_bulk(execution)


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    if session.get_nested_transaction() is None:  # a prepare comes here, too
        check_ages(session)


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    mark_committed(session)


@event.listens_for(Session, "after_transaction_create")
def _after_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    transaction_begun(session, transaction)


@event.listens_for(Session, "after_transaction_end")
def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_FLUSH, None)  # of a flush that failed
    transaction_ended(session, transaction)


# What before_flush could not see: objects that later listeners added or changed, delete-orphans, cascades. These
# listeners come as late as they can, so that those of the application are called before them.


def _hear(mapper: Mapper[Any]) -> None:
    if not event.contains(mapper, "before_insert", _before_insert):
        event.listen(mapper, "before_insert", _before_insert)
        event.listen(mapper, "before_update", _before_update)
        event.listen(mapper, "before_delete", _before_delete)


def _before_insert(mapper: Mapper[Any], connection: Connection, target: object) -> None:
    flush, state = _flush_of(target)
    flush.run(new=[state])


def _before_update(mapper: Mapper[Any], connection: Connection, target: object) -> None:
    flush, state = _flush_of(target)
    flush.run(changed=[state])


def _before_delete(mapper: Mapper[Any], connection: Connection, target: object) -> None:
    flush, state = _flush_of(target)
    flush.run(deleted=[state])


def _flush_of(target: object) -> tuple[FileFlush, InstanceState[Any]]:
    state = inspect(target)
    session: Session = state.session
    return session.info[_FLUSH], state
