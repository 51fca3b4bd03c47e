"""Where a manager's rows are: the databases and schemas that a sweep asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Engine, MetaData, inspect

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.wording import url_part
from granite_storage.orm.marking import mark
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import Source, ref_columns
from granite_storage.orm.registry import database_id, known_database_id, registry_of
from granite_storage.orm.registry import new_database_id as renew_database_id
from granite_storage.orm.sites import Site

if TYPE_CHECKING:
    from sqlalchemy import Column

    from granite_storage.manager import StorageManager
    from granite_storage.orm.type import StoredObjectRefType
    from granite_storage.policies import StoragePolicy

__all__ = [
    "FileColumnAt",
    "check_tables",
    "columns_there",
    "database_ids",
    "mark_prefixes",
    "file_columns_at",
    "metadata_of",
    "metadatas_of",
    "sites_of",
    "sources_at",
    "take_ownership",
    "with_outbox",
]


@dataclass(frozen=True, slots=True)
class FileColumnAt:
    """A column of refs in a database."""

    site: Site
    column: Column[Any]

    @property
    def table(self) -> str:
        """The table's name, with its schema."""
        schemas = dict(self.site.schemas)
        schema = schemas.get(self.column.table.schema, self.column.table.schema)
        return f"{schema}.{self.column.table.name}" if schema else self.column.table.name

    @property
    def name(self) -> str:
        """``table.column``."""
        return f"{self.table}.{self.column.name}"

    @property
    def field(self) -> tuple[str, str, str]:
        """Schema (empty for the default one), table and column; once the engine has been connected."""
        schemas = dict(self.site.schemas)
        schema = schemas.get(self.column.table.schema, self.column.table.schema)
        default = self.site.engine.dialect.default_schema_name
        return "" if schema in (None, default) else str(schema), self.column.table.name, self.column.name

    @property
    def keys(self) -> list[Column[Any]]:
        """The primary key's columns."""
        table: Any = self.column.table
        return list(table.primary_key.columns)


def sites_of(manager: StorageManager, engine: Any, more: Iterable[MetaData] = ()) -> list[Site]:
    """The sites of every attached MetaData.

    :param engine: an engine, an async one, or several (a schema per tenant: an engine each, with its
        ``schema_translate_map`` as an execution option). A MetaData that was attached with an engine is there.
    :param more: MetaDatas besides the attached ones.
    :raises ConfigurationError: if nothing is attached, nobody says where a MetaData is, or an engine is given where all
        MetaDatas were attached with others.
    """
    given: list[Engine] = [_sync(one) for one in (engine if isinstance(engine, Sequence) else [engine]) if one]
    metadatas: dict[MetaData, Engine | None] = {**dict.fromkeys(more), **manager.attached}
    if not metadatas:
        raise ConfigurationError("the manager serves no models yet: call manager.attach(Base, engine=engine) first")
    sites: dict[Site, None] = {}
    for metadata, attached in metadatas.items():
        engines = given
        if attached is not None and all(one.pool is not attached.pool for one in given):
            engines = [attached]
        if not engines:
            raise ConfigurationError(
                "nobody can tell in which database the rows are: give the engine, or say so once: "
                "manager.attach(Base, engine=engine)"
            )
        sites |= dict.fromkeys(Site.of(one, metadata) for one in engines)
    pools = {site.pool for site in sites}
    for one in given:
        if one.pool not in pools:
            raise ConfigurationError(
                f"the engine of database {url_part(one.url.database)} would not be asked: all models were attached "
                "with other engines, which say where their rows are. Give none, or attach the models without one: "
                "manager.attach(Base)"
            )
    return list(sites)


def metadata_of(model: Any) -> MetaData | None:
    """The MetaData of a model, which is a declarative base, a mapped class or a MetaData itself; None if it is none."""
    metadata = model if isinstance(model, MetaData) else getattr(model, "metadata", None)
    return metadata if isinstance(metadata, MetaData) else None


def metadatas_of(models: Any) -> list[MetaData]:
    """The MetaDatas of a model, of several, or of none.

    :raises ConfigurationError: if one of them is no model.
    """
    found = []
    for one in models if isinstance(models, (list, tuple)) else [] if models is None else [models]:
        metadata = metadata_of(one)
        if metadata is None:
            raise ConfigurationError(f"models are declarative bases, mapped classes or MetaDatas, not {one!r}")
        found.append(metadata)
    return found


def sources_at(sites: Iterable[Site]) -> tuple[Source, ...]:
    """Every column of refs at these sites."""
    return tuple(
        Source(column, site.engine, dict(site.schemas) or None)
        for site in sites
        for column in ref_columns(site.metadata)
    )


def columns_there(site: Site) -> list[Column[Any]]:
    """The columns of refs whose tables exist: one that does not names nothing."""
    with site.desk() as desk:
        connection = desk.connection
        schemas = dict(site.schemas)
        inspector = inspect(connection)
        return [
            column
            for column in ref_columns(site.metadata)
            if inspector.has_table(column.table.name, schemas.get(column.table.schema, column.table.schema))
        ]


def check_tables(sites: Collection[Site]) -> None:
    """See that the databases are those of the models: where no table of them is there is nothing to look at.

    :raises ConfigurationError: if there is none, naming the databases and tables.
    """
    wanted = {column.table.name for site in sites for column in ref_columns(site.metadata)}
    if wanted and not any(columns_there(site) for site in sites):
        databases = ", ".join(sorted({url_part(site.engine.url.database, site.engine.url.host) for site in sites}))
        raise ConfigurationError(
            f"database {databases} has none of the tables with file fields ({', '.join(sorted(wanted))}): give the "
            "engine of the right one, or make them first"
        )


def file_columns_at(sites: Iterable[Site]) -> list[FileColumnAt]:
    """Every column of refs at these sites whose table exists; one that several MetaDatas or engines lead to, once."""
    found: dict[tuple[object, ...], FileColumnAt] = {}
    for site in sites:
        database: object = None
        for column in columns_there(site):
            at = FileColumnAt(site, column)
            database = database or _database_of(site)
            found.setdefault((database, at.field), at)
    return list(found.values())


def _database_of(site: Site) -> object:
    """What is the same for all engines that lead to one database: its id and where it is; or the engine's pool."""
    url, registry, number = site.engine.url, registry_of(site.metadata), None
    if registry is not None:
        with site.desk() as desk, suppress(ConfigurationError):  # there is none: who deletes says how to make it
            number = known_database_id(desk.connection, registry)
    return site.pool if number is None else (number, url.host, url.port, url.database)


def database_ids(sites: Iterable[Site], *, make: bool = True) -> dict[Site, str]:
    """The ids of the databases at these sites; made where one has none yet.

    :param make: if not, such a one is left out.
    :raises ConfigurationError: if a registry is missing, saying how to make it.
    """
    ids = {}
    for site in sites:
        registry = registry_of(site.metadata)
        if registry is not None:
            with site.desk() as desk:
                found = (database_id if make else known_database_id)(desk.connection, registry)
            if found is not None:
                ids[site] = found
    return ids


def mark_prefixes(manager: StorageManager, sites: Iterable[Site], policies: Iterable[StoragePolicy]) -> None:
    """Note at the prefix of each policy which of these databases have file fields of it."""
    chosen = list(policies)
    for site, database in database_ids(sites).items():
        used = {cast("StoredObjectRefType", column.type).policy for column in ref_columns(site.metadata)}
        for policy in chosen:
            if policy.storage_key in used:
                mark(manager, policy.storage_key, site, partial(str, database))


def take_ownership(manager: StorageManager, engine: Any, *, new_database_id: bool) -> None:
    """Mark the policies' prefixes as this manager's and these databases'; see the manager's method of that name."""
    sites = sites_of(manager, engine)
    if new_database_id:
        for site in sites:
            registry = registry_of(site.metadata)
            if registry is not None:
                with site.desk() as desk:
                    renew_database_id(desk.connection, registry)
    ids = set(database_ids(sites).values())
    for policy in manager.policies.values():
        manager.ownership.take(manager.get_backend_for_policy(policy), policy, ids)


def with_outbox(sites: Iterable[Site]) -> list[Site]:
    """Those of the sites that have an outbox."""
    return [site for site in sites if outbox_of(site.metadata) is not None]


def _sync(engine: Any) -> Engine:
    found = getattr(engine, "sync_engine", engine)
    if not isinstance(found, Engine):
        raise ConfigurationError(f"this takes an engine, or several, not {engine!r}")
    return found
