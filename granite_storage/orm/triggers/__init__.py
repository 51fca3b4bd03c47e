"""Triggers: the database itself writes the outbox, whoever deletes a row or changes its object.

Raw SQL, other programs and ``ON DELETE CASCADE`` bypass the ORM; with ``FileColumn(..., trigger=True)``, or
``metadata_options(triggers=True)`` for all fields of a MetaData, they do not bypass the outbox. ``create_all`` makes
the triggers with the tables; :func:`create_triggers` makes them for tables that are there. Each dialect's module says
what its triggers cannot see.
"""

from __future__ import annotations

from granite_storage.orm.triggers.declared import definitions_for, has_trigger, trigger_columns, trigger_of
from granite_storage.orm.triggers.definition import TRIGGER_VERSION, FileTrigger
from granite_storage.orm.triggers.making import add_triggers, create_triggers, drop_triggers
from granite_storage.orm.triggers.standing import triggers_stand

__all__ = [
    "TRIGGER_VERSION",
    "FileTrigger",
    "add_triggers",
    "create_triggers",
    "definitions_for",
    "drop_triggers",
    "has_trigger",
    "trigger_columns",
    "trigger_of",
    "triggers_stand",
]
