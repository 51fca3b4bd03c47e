"""The refs that rows give up in a flush: read under a row lock, since what the session had loaded may be stale."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select, tuple_

from granite_storage.batching import batched
from granite_storage.exceptions import StorageError
from granite_storage.files import StoredFile
from granite_storage.orm.fields import FileField, file_fields
from granite_storage.orm.references import Identity
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Mapper, Session

    from granite_storage.manager import StorageManager

__all__ = ["Given", "GivenUp", "given_up", "known_ref", "locked_rows"]

_log = logging.getLogger("granite_storage")
_BATCH = 1000  # rows a locking SELECT names at once


@dataclass(frozen=True, slots=True)
class Given:
    """A ref that a locked row gives up."""

    state: InstanceState[Any]
    field: FileField
    ref: StoredObjectRef


GivenUp = dict[tuple["StorageManager", Identity], Given]
"""What the rows of a flush give up, by object."""


def given_up(session: Session, rows: Mapping[InstanceState[Any], Iterable[FileField]]) -> GivenUp:
    """Lock rows, with one SELECT ... FOR UPDATE a mapper, and give the refs that stand in some of their fields."""
    by_mapper: dict[Mapper[Any], dict[Any, InstanceState[Any]]] = {}
    for state in rows:
        if state.key is not None:
            by_mapper.setdefault(state.mapper, {})[tuple(state.key[1])] = state
    given: GivenUp = {}
    for mapper in sorted(by_mapper, key=_lock_order):
        connection = session.connection(bind_arguments={"mapper": mapper})
        for state, files in _matched(connection, mapper, by_mapper[mapper]):
            for field in rows[state]:
                ref = known_ref(field, files[field.key])
                if ref is not None:
                    manager = field.home.manager
                    given[manager, manager.identity(ref)] = Given(state, field, ref)
    return given


def known_ref(field: FileField, file: StoredFile | None) -> StoredObjectRef | None:
    """The ref that a row gives up; None, and logged, if it names no object that is known."""
    if file is None:
        return None
    try:
        field.home.manager.identity(file.ref)
    except StorageError as error:
        _log.warning("%s: a row gives up what names no object that is known: %s", field.home, error)
        return None
    return file.ref


def _lock_order(mapper: Mapper[Any]) -> tuple[str, str]:
    """The same for every transaction, so that two of them do not wait for each other's rows."""
    return str(mapper.local_table), mapper.class_.__qualname__


def _matched(
    connection: Connection, mapper: Mapper[Any], states: Mapping[tuple[Any, ...], InstanceState[Any]]
) -> Iterator[tuple[InstanceState[Any], dict[str, Any]]]:
    """The locked row of each object; a row whose key the database spells in another way is read by itself."""
    missing, strange = dict(states), False
    for key, files in locked_rows(connection, mapper, states):
        if key in missing:
            yield missing.pop(key), files
        else:
            strange = True
    if strange:
        for key, state in missing.items():
            for _, files in locked_rows(connection, mapper, [key]):
                yield state, files


def locked_rows(
    connection: Connection, mapper: Mapper[Any], keys: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Primary key and file fields of rows, locked for the rest of the transaction.

    It is a Core SELECT, so that no criteria that the application adds to ORM queries can hide a row. SQLite has no row
    locks: there the transaction that is about to write is the lock.
    """
    primary, fields = mapper.primary_key, file_fields(mapper)
    for batch in batched(list(keys), _BATCH):
        one_column = len(primary) == 1
        wanted = [key[0] for key in batch] if one_column else batch
        named = primary[0] if one_column else tuple_(*primary)
        criterion = named.in_(bindparam(None, wanted, named.type, expanding=True))  # of the key's type, not the values'
        statement = (
            select(*primary, *(field.column for field in fields))
            .select_from(mapper.persist_selectable)
            .where(criterion)
            .order_by(*primary)
            .with_for_update()
        )
        for row in connection.execute(statement):
            values = row[len(primary) :]
            yield tuple(row[: len(primary)]), {field.key: value for field, value in zip(fields, values, strict=True)}
