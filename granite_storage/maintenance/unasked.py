"""File fields that a database has and that nobody asks: their rows may name what would seem to be nobody's.

As where the program that collects does not import all models, knows a table by its former name, or asks for one
tenant's schema of many. The registry notes every file field that was made by ``create_all`` or a migration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import inspect

from granite_storage.maintenance.places import FileColumnAt
from granite_storage.maintenance.wording import url_part
from granite_storage.orm.references import ref_columns
from granite_storage.orm.registry import read_registry, registry_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from granite_storage.orm.sites import Site

__all__ = ["unasked_fields"]

_Field = tuple[str, str, str]
"""Schema (empty for the default one), table and column."""

_Database = tuple[str, str | None, int | None, str | None]
"""Its id, which a copy may have, too; and where it is: several engines may lead there."""

_TOLD = 5


@dataclass(slots=True)
class _Noted:
    """What a database's registry notes.

    :param gone: the fields whose table is not there.
    :param asked: the fields that are asked there.
    """

    fields: set[_Field] = field(default_factory=set)
    gone: set[_Field] = field(default_factory=set)
    asked: set[_Field] = field(default_factory=set)


def unasked_fields(sites: Collection[Site]) -> Iterator[str]:
    """Why nothing may be deleted by listing, for each database that notes file fields which are not asked.

    :raises ConfigurationError: if a registry is missing, saying how to make it.
    """
    asked: dict[object, set[_Field]] = defaultdict(set)  # by pool
    for site in sites:
        asked[site.pool].update(_asked_at(site))
    noted: dict[_Database, _Noted] = {}
    read: set[tuple[object, ...]] = set()  # a registry that many schemas share is read once
    for site in sites:
        registry, schemas = registry_of(site.metadata), dict(site.schemas)
        if registry is None:
            continue
        place = site.pool, schemas.get(registry.schema, registry.schema), registry.name
        if place in read:
            continue
        read.add(place)
        with site.desk() as desk:
            number, rows = read_registry(desk.connection, registry)
            url = site.engine.url
            known = number or f"pool {id(site.pool)}"  # without an id nobody can tell that two engines lead to one
            here = noted.setdefault((known, url.host, url.port, url.database), _Noted())
            here.asked |= asked[site.pool]
            for one, there in _fields(desk.connection, rows, asked[site.pool]):
                here.fields.add(one)
                if not there:
                    here.gone.add(one)
    for (*_, database), here in noted.items():
        # a table that is not there gave no answer
        names = sorted(".".join(filter(None, field)) for field in here.fields - (here.asked - here.gone))
        if names:
            yield (
                f"database {url_part(database)} has {len(names)} file field{'s' * (len(names) > 1)} that nobody asked, "
                f"{', '.join(names[:_TOLD])}{', ...' * (len(names) > _TOLD)}, whose rows may name any object: import "
                "their models before manager.attach() is called, and give the engines of all schemas. One whose table "
                "was renamed or dropped by hand is followed by a migration (alembic revision --autogenerate)"
            )


def _asked_at(site: Site) -> Iterator[_Field]:
    with site.desk():
        pass  # connected: from now on the engine knows its default schema
    for column in ref_columns(site.metadata):
        yield FileColumnAt(site, column).field


def _fields(
    connection: Connection, rows: Iterable[Sequence[str]], asked: Collection[_Field]
) -> Iterator[tuple[_Field, bool]]:
    """The fields that the registry notes, but for those whose column is gone; and whether their table is there.

    :param rows: what it notes: schema, table and column.
    :param asked: those whose columns need no look.
    """
    default = connection.dialect.default_schema_name
    inspector = inspect(connection)
    there: dict[tuple[str, str], bool] = {}
    columns: dict[tuple[str, str], set[str]] = {}
    for noted, table, column in rows:
        place = "" if noted == default else noted, table
        field = *place, column
        if place not in there:
            there[place] = inspector.has_table(table, place[0] or None)
        if not there[place]:
            yield field, False
            continue
        if field not in asked and place not in columns:
            columns[place] = {one["name"] for one in inspector.get_columns(table, place[0] or None)}
        if field in asked or column in columns[place]:
            yield field, True
