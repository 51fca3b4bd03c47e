"""Rows of which nobody can tell what object they name: while there are some, no orphan is deleted.

It may be any of them, at whatever backend: a file is not always at its field's policy's backend, since it may have
been moved, or stored when the policy had another.

A value that tells a location and is broken otherwise is no trouble: it keeps the object of that location, at whatever
backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from granite_storage.exceptions import InvalidRefError
from granite_storage.files import StoredFile
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from granite_storage.maintenance.places import FileColumnAt

__all__ = ["UnreadableRef", "unreadable_refs"]

_FETCHED = 100


@dataclass(frozen=True, slots=True)
class UnreadableRef:
    """A row whose file column holds something of which nobody can tell what object it names.

    :param column: ``table.column``.
    :param key: the row's primary key.
    :param problem: what is wrong with it, and the remedy.
    """

    column: str
    key: tuple[object, ...]
    problem: str


def unreadable_refs(columns: Iterable[FileColumnAt]) -> Iterator[tuple[FileColumnAt, UnreadableRef]]:
    """The rows of columns whose value tells no location, each with its column."""
    for at in columns:
        location = FileComparator(at.column).location
        statement = select(at.column, *at.keys).where(at.column.is_not(None), location.is_(None))
        with at.site.desk() as desk:
            for value, *key in desk.connection.execute(statement.execution_options(yield_per=_FETCHED)):
                try:
                    ref = value.ref if isinstance(value, StoredFile) else value
                    if ref is None:  # JSON's null
                        continue
                    ref.location  # noqa: B018 - decodes it
                except InvalidRefError as error:
                    yield at, UnreadableRef(at.name, tuple(key), str(error)[:500])
