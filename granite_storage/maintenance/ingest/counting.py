"""Counting what a conversion would convert, once it is sure that it could begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granite_storage.maintenance.ingest.opening import opened
from granite_storage.maintenance.ingest.walking import count
from granite_storage.maintenance.ingest.working import working

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.manager import StorageManager

__all__ = ["count_waiting"]


def count_waiting(engine: Engine, manager: StorageManager, conversion: Conversion) -> int:
    """How many rows :func:`ingest` would convert; nothing is changed, and no value is read.

    :raises StorageError: if the conversion is none that could be, as :func:`ingest` does before it begins.
    """
    with working(engine, None) as work:
        kind, _ = opened(work, manager, conversion)
        return count(work.connection, kind.table, kind.waiting())
