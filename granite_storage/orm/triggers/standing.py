"""Whether a database has the triggers that were declared: asked of its catalog, once an engine and file column; and
again when the end of a transaction misses what they should have written, since a migration may have dropped them.

If it has not, as after adding ``trigger=True`` to a table that is there, the ORM writes the outbox itself, as without
triggers; what other programs free is not written down then.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from granite_storage.orm.triggers.declared import answers, definitions_for, has_trigger, trigger_of

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Pool

__all__ = ["forget_standing", "triggers_stand"]

_log = logging.getLogger("granite_storage")
_known: WeakKeyDictionary[Pool, dict[tuple[str | None, str, str], bool]] = WeakKeyDictionary()
_changing: WeakSet[Any] = WeakSet()
"""Transactions in which triggers were made or dropped: what is seen in them may be rolled back."""
_knowing = threading.Lock()


def triggers_stand(connection: Connection, column: Column[Any]) -> bool:
    """Whether a file column was declared with triggers, and its table has them; asked once an engine.

    If they are missing, one warning is logged that says how to make them.
    """
    if not has_trigger(column):
        return False
    key = (connection.schema_for_object(column.table), column.table.name, column.name)
    with _knowing:
        known = _known.setdefault(connection.engine.pool, {})
    stand = known.get(key)
    if stand is None:
        definitions = definitions_for(connection.dialect.name)
        stand = definitions is not None and definitions.standing(connection, trigger_of(connection, column))
        if not stand:
            _log.warning(
                "file field %s.%s is declared with triggers, but its table has not all of them in this database (%s), "
                "or this role may not see them: what is freed by others than the ORM is not written to the outbox; "
                "make them with granite_storage.orm.triggers.create_triggers(connection, table)",
                column.table.fullname,
                column.name,
                connection.dialect.name,
            )
        if connection.get_transaction() not in _changing:
            known[key] = stand
    return stand


def forget_standing(connection: Connection) -> None:
    """Ask anew what a database has: triggers were made or dropped, or seem to be."""
    if answers(connection):
        with _knowing:
            _known.pop(connection.engine.pool, None)
        if (transaction := connection.get_transaction()) is not None:
            _changing.add(transaction)
