"""Rows of which nobody can tell what object they name: while there are some, no orphan is deleted.

It may be any of them, at whatever backend: a file is not always at its field's policy's backend, since it may have
been moved, or stored when the policy had another.

It tells one if the location is a text, and not an empty one. A value that tells a location and is broken otherwise is
no trouble: it keeps the object of that location, at whatever backend.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, not_, or_, select

from granite_storage.exceptions import InvalidRefError
from granite_storage.files import StoredFile
from granite_storage.maintenance.keyset import stretches_of_rows
from granite_storage.orm.members import TellsLocation
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from granite_storage.maintenance.places import FileColumnAt

__all__ = ["UnreadableRef", "problem_of", "undecodable_refs", "unreadable_refs"]

_FETCHED = 100
_STRETCH = 10_000
_TOLD = 500  # characters


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


def unreadable_refs(columns: Iterable[FileColumnAt]) -> Generator[tuple[FileColumnAt, UnreadableRef]]:
    """The rows of columns whose value tells no location, each with its column."""
    for at in columns:
        statement = select(at.column, *at.keys).where(at.column.is_not(None), *_telling_none(at))
        statement = statement.execution_options(yield_per=_FETCHED)
        with at.site.desk() as desk, desk.connection.execute(statement) as rows:
            for value, *key in rows:
                problem = problem_of(value)
                if problem:
                    yield at, UnreadableRef(at.name, tuple(key), problem)


def undecodable_refs(columns: Iterable[FileColumnAt]) -> Iterator[tuple[FileColumnAt, UnreadableRef, str, str]]:
    """The rows of columns that tell a location and are no refs nevertheless, with backend and location.

    Every row is read for it.
    """
    for at in columns:
        file = FileComparator(at.column)
        statement = select(at.column, file.backend, file.location, *at.keys).where(TellsLocation(at.column))
        for rows in stretches_of_rows(at.site, statement, at.keys, _STRETCH):
            for value, backend, location, *key in rows:
                problem = problem_of(value)
                if problem:
                    yield at, UnreadableRef(at.name, tuple(key), problem), backend, location


def problem_of(value: Any) -> str:
    """Why a column's value is no ref, with the remedy; nothing if it is one, or JSON's null."""
    try:
        ref = value.ref if isinstance(value, StoredFile) else value
        if ref is not None:
            ref.location  # noqa: B018 - decodes it
    except InvalidRefError as error:
        return str(error)[:_TOLD]
    return ""


def _telling_none(at: FileColumnAt) -> Iterator[ColumnElement[bool]]:
    """What chooses the rows that tell no location; on SQLite so that its index serves it."""
    location = FileComparator(at.column).location
    if at.site.engine.dialect.name == "sqlite":  # where numbers come before all text, and objects and lists are text
        yield not_(TellsLocation(at.column)) | location.is_(None)
        lists, objects = and_(location >= "[", location < "\\"), and_(location >= "{", location < "|")
        yield or_(location.is_(None), location <= "", lists, objects)
    else:
        yield or_(location.is_(None), not_(TellsLocation(at.column)))
