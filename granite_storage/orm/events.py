"""Where SQLAlchemy's events meet the rest: each listener is a line or two.

Session events come for every session; mapper events only for classes that have file fields.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event, inspect
from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute, Mapper, Session, SessionTransaction

from granite_storage.files import StoredFile
from granite_storage.orm.fields import file_fields, forget_fields
from granite_storage.orm.flush import FileFlush, states_of
from granite_storage.orm.home import FieldHome
from granite_storage.orm.hybrids import add_hybrids
from granite_storage.orm.ledger import mark_committed, transaction_ended
from granite_storage.orm.staging import stage
from granite_storage.orm.type import StoredObjectRefType

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, UOWTransaction

_FLUSH = "granite_storage.flush"
_unheard: WeakSet[Mapper[Any]] = WeakSet()
_hearing = threading.Lock()


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
    session.info[_FLUSH].finish(context)
    del session.info[_FLUSH]  # it holds the objects of the flush


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    mark_committed(session)


@event.listens_for(Session, "after_transaction_end")
def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_FLUSH, None)  # of a flush that failed
    transaction_ended(session, transaction)


@event.listens_for(Mapper, "after_mapper_constructed")
def _after_mapper_constructed(mapper: Mapper[Any], class_: type[Any]) -> None:
    _serve(mapper)


@event.listens_for(object, "attribute_instrument")
def _attribute_instrument(class_: type[Any], key: str, attribute: InstrumentedAttribute[Any]) -> None:
    """Once for every attribute of every mapped class, subclasses too; attributes that are added later as well."""
    home = _home_of(attribute)
    if home is not None:

        def staged(target: object, value: Any, old: Any, initiator: object) -> StoredFile | None:
            return stage(home, value, old)

        event.listen(attribute, "set", staged, retval=True)
        mapper = inspect(class_)
        forget_fields(mapper)
        _serve(mapper)


def _home_of(attribute: InstrumentedAttribute[Any]) -> FieldHome | None:
    if isinstance(attribute.prop, ColumnProperty):
        type_ = attribute.prop.columns[0].type
        if isinstance(type_, StoredObjectRefType) and type_.policy is not None:
            return type_.home
    return None


def _serve(mapper: Mapper[Any]) -> None:
    """Give a mapped class that has file fields its hybrids now, and its listeners with the next flush."""
    fields = file_fields(mapper)
    if fields:
        add_hybrids(mapper, fields)
        _unheard.add(mapper)


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


if "alembic" in sys.modules:  # before 1.18 Alembic has no plugins; but every env.py imports it before the models
    import alembic_ext

    alembic_ext.register()
