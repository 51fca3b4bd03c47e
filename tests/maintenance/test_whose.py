"""Two databases on one store, a staging copy of production, a schema per tenant: nobody eats another's files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
)
from granite_storage.exceptions import OwnershipError
from granite_storage.gc import StorageGarbageCollector
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.registry import registry_of
from granite_storage.verify import StorageVerifier
from tests.databases import Database, make_engine
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

NOW = timedelta(0)


class Shop:
    """An application: its own models and manager, on a database and a store that may be another's, too."""

    def __init__(self, engine: Engine, store: MemoryStorageBackend, owner: str | None = None, prefix: str = "docs"):
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")

        self.Base, self.Document, self.engine, self.store = Base, Document, engine, store
        policy = StoragePolicy("documents", "store", key_prefix=prefix)
        self.manager = StorageManager({"store": store}, {"documents": policy}, owner=owner)
        self.manager.attach(Base)
        Base.metadata.create_all(engine)

    def add(self, content: bytes) -> int:
        with Session(self.engine) as session:
            document = self.Document(report=content)
            session.add(document)
            session.commit()
            return document.id

    def contents(self) -> list[bytes]:
        with Session(self.engine) as session:
            return sorted(file.read() for file in session.scalars(select(self.Document.report)) if file)

    def outbox(self) -> list[Any]:
        outbox = outbox_of(self.Base.metadata)
        assert outbox is not None
        with self.engine.connect() as connection:
            return list(connection.execute(select(outbox)))


@pytest.fixture
def store() -> MemoryStorageBackend:
    return MemoryStorageBackend()


@pytest.fixture
def other_engine() -> Iterator[Engine]:
    made = make_engine("sqlite://")
    yield made
    made.dispose()


def test_two_databases_on_one_prefix_do_not_eat_each_others_files(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    ours, theirs = Shop(engine, store), Shop(other_engine, store)
    ours.add(b"ours")
    theirs.add(b"theirs")
    for shop in (ours, theirs):
        report = shop.manager.sweep(shop.engine, grace=NOW, force=True)
        assert "bears the mark of 1 other database" in report.refused[0] and report.orphans == 0
        assert "take_ownership" in report.refused[0] and not report.complete
    assert ours.contents() == [b"ours"] and theirs.contents() == [b"theirs"]


def test_the_first_to_sweep_takes_nothing_of_who_stores_later(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    ours, theirs = Shop(engine, store), Shop(other_engine, store)
    ours.add(b"ours")
    assert ours.manager.sweep(engine, grace=NOW).complete
    theirs.add(b"theirs")
    assert not ours.manager.sweep(engine, grace=NOW).complete
    assert theirs.contents() == [b"theirs"]


def test_a_database_that_only_outer_transactions_write_to_is_seen_by_others(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    ours, theirs = Shop(engine, store), Shop(other_engine, store)
    with engine.begin() as connection, Session(connection) as session:
        session.add(ours.Document(report=b"ours"))
        session.flush()
    theirs.add(b"theirs")
    assert "bears the mark" in theirs.manager.sweep(other_engine, grace=NOW, force=True).refused[0]
    with engine.begin() as connection, Session(connection) as session:
        session.add(ours.Document(report=b"ours, too"))
        session.commit()
    assert theirs.manager.sweep(other_engine, grace=NOW, force=True).orphans == 0
    assert len([*store.iter_locations()]) == 3


def test_own_prefixes_of_one_store_are_swept_apart(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    ours, theirs = Shop(engine, store), Shop(other_engine, store, prefix="docs-old")
    ours.add(b"ours")
    theirs.add(b"theirs")
    orphan = put_old(store, 25 * HOUR)
    assert ours.manager.sweep(engine).orphans == 1
    assert theirs.manager.sweep(other_engine).complete
    assert orphan not in list(store.iter_locations())
    assert ours.contents() == [b"ours"] and theirs.contents() == [b"theirs"]


def test_a_database_that_was_made_anew_takes_the_prefix_over_on_purpose(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    gone, made_anew = Shop(other_engine, store), Shop(engine, store)
    gone.add(b"of the database that is gone")
    made_anew.add(b"kept")
    assert not made_anew.manager.sweep(engine, grace=NOW).complete
    made_anew.manager.take_ownership(engine)
    report = made_anew.manager.sweep(engine, grace=NOW)
    assert report.complete and report.orphans == 1
    assert made_anew.contents() == [b"kept"] and len(list(store.iter_locations())) == 1


def _copy(source: Shop, target: Shop) -> None:
    """A dump of one database, restored into another: its id included."""
    for table in source.Base.metadata.sorted_tables:
        copied = target.Base.metadata.tables[table.name]
        with source.engine.connect() as connection:
            rows = [dict(row._mapping) for row in connection.execute(select(table))]
        with target.engine.begin() as connection:
            connection.execute(copied.delete())
            for row in rows:
                connection.execute(copied.insert().values(row))


def test_a_staging_copy_of_production_reads_and_neither_stores_nor_deletes(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    production, staging = Shop(engine, store, owner="prod"), Shop(other_engine, store, owner="staging")
    production.add(b"a")
    key = production.add(b"b")
    _copy(production, staging)
    assert staging.contents() == [b"a", b"b"]
    with Session(staging.engine) as session:
        session.delete(session.get_one(staging.Document, key))
        session.commit()
    with pytest.raises(OwnershipError, match=r"belongs to the owner 'prod'.*acts for the owner 'staging'"):
        staging.add(b"c")
    (row,) = staging.outbox()
    assert "'prod'" in row.last_error
    put_old(store, 25 * HOUR)
    report = staging.manager.sweep(staging.engine, grace=NOW, force=True)
    assert "belongs to the owner 'prod'" in report.refused[0] and report.orphans == 0
    assert production.contents() == [b"a", b"b"]
    assert production.manager.sweep(engine).orphans == 1


def test_a_copy_goes_its_own_way_with_a_prefix_and_an_id_of_its_own(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    production, staging = (
        Shop(engine, store, owner="prod"),
        Shop(other_engine, store, owner="staging", prefix="staging-docs"),
    )
    production.add(b"a")
    _copy(production, staging)

    def database_id(shop: Shop) -> Any:
        registry = registry_of(shop.Base.metadata)
        assert registry is not None
        with shop.engine.connect() as connection:
            return connection.scalar(select(registry.c.database_id).where(registry.c.table_name == ""))

    assert database_id(staging) == database_id(production)
    staging.manager.take_ownership(staging.engine, new_database_id=True)
    assert database_id(staging) != database_id(production)
    staging.add(b"b")
    assert staging.contents() == [b"a", b"b"]
    assert staging.manager.sweep(staging.engine, grace=NOW).complete
    assert production.manager.sweep(engine, grace=NOW).complete
    assert production.contents() == [b"a"] and staging.contents() == [b"a", b"b"]


def test_a_manager_without_an_owner_keeps_away_from_what_has_one(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend
) -> None:
    Shop(engine, store, owner="prod").add(b"a")
    with pytest.raises(OwnershipError, match="acts for none"):
        Shop(other_engine, store).manager.store("documents", b"b")


def test_an_owner_is_renamed_on_purpose(engine: Engine, store: MemoryStorageBackend) -> None:
    Shop(engine, store, owner="shop").add(b"a")
    renamed = Shop(engine, store, owner="shop-eu")
    with pytest.raises(OwnershipError):
        renamed.add(b"b")
    renamed.manager.take_ownership(engine)
    renamed.add(b"b")
    assert renamed.manager.sweep(engine, grace=NOW).complete
    assert renamed.contents() == [b"a", b"b"]
    with pytest.raises(OwnershipError):
        Shop(engine, store, owner="shop").add(b"c")


# A schema per tenant


@pytest.mark.databases("postgresql")
def test_a_schema_per_tenant_is_swept_with_the_engines_of_all(engine: Engine, store: MemoryStorageBackend) -> None:
    shop = Shop(engine, store)
    shop.Base.metadata.drop_all(engine)
    tenants = []
    for name in ("one", "two"):
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        tenant = engine.execution_options(schema_translate_map={None: name})
        shop.Base.metadata.create_all(tenant)
        tenants.append(tenant)
        with Session(tenant) as session:
            session.add_all([shop.Document(report=name.encode()), shop.Document(report=b"to go")])
            session.commit()
    with Session(tenants[0]) as session:
        session.delete(session.get_one(shop.Document, 2))
        session.commit()
    put_old(store, 25 * HOUR)
    alone = shop.manager.sweep(tenants[0], grace=NOW)
    assert "mark of 1 other database" in alone.refused[0] and alone.orphans == 0
    report = shop.manager.sweep(tenants, grace=NOW)
    assert report.complete and report.orphans == 1
    assert sorted(store.get(_ref(location)) for location in store.iter_locations()) == [b"one", b"to go", b"two"]


@pytest.mark.databases("postgresql")  # where a schema is one of this test's own database
def test_schemas_of_all_tenants_are_asked_over_one_connection(engine: Engine, store: MemoryStorageBackend) -> None:
    single = make_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=5)
    shop = Shop(single, store)
    tenants = []
    for name in ("one", "two"):
        with single.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        tenants.append(single.execution_options(schema_translate_map={None: name}))
        shop.Base.metadata.create_all(tenants[-1])
    outbox = outbox_of(shop.Base.metadata)
    assert outbox is not None
    location = put_old(store, HOUR)
    with Session(tenants[1]) as session:
        session.add(shop.Document(report=b"kept"))
        session.execute(insert(outbox).values(backend="store", location=location, storage_key="documents"))
        session.commit()
    report = shop.manager.sweep(tenants, grace=NOW)
    single.dispose()
    assert report.complete and report.freed == 1
    assert len([*store.iter_locations()]) == 1


def _ref(location: str) -> StoredObjectRef:
    return StoredObjectRef("", "store", location, 0, "")


# Awaited


@pytest.mark.databases("sqlite", "postgresql")
@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
def test_an_awaited_sweep_leaves_the_loop_free(world: World, database: Database, kind: str) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 25 * HOUR)
    entry = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[database.name]
    progress: list[int] = []

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        reached, opened = asyncio.Event(), asyncio.Event()
        passed: list[bool] = []

        def wait(location: str) -> None:
            loop.call_soon_threadsafe(reached.set)
            passed.append(asyncio.run_coroutine_threadsafe(_within(opened), loop).result(30))

        world.backend.before_delete = wait

        async def other_task() -> None:
            await reached.wait()
            progress.append(1)
            opened.set()

        engine = create_async_engine(database.url_through(entry)) if kind == "asynchronous" else world.engine
        try:
            report, _ = await asyncio.gather(world.manager.asweep(engine), other_task())
        finally:
            if kind == "asynchronous":
                await engine.dispose()  # type: ignore[misc]
        assert passed and all(passed)
        return report

    async def _within(event: asyncio.Event) -> bool:
        await event.wait()
        return True

    report = asyncio.run(run())
    assert report.orphans == 1 and progress == [1]
    world.check()


@pytest.mark.parametrize("declared", [False, True])
def test_a_prefix_inside_ours_is_somebody_else_s(
    engine: Engine, other_engine: Engine, store: MemoryStorageBackend, declared: bool
) -> None:
    ours, inside = Shop(engine, store), Shop(other_engine, store, prefix="docs/team")
    ours.add(b"ours")
    inside.add(b"theirs")
    orphan, theirs = put_old(store, 48 * HOUR), put_old(store, 48 * HOUR, prefix="docs/team")
    if declared:
        ours.manager.add_references(list)
    before = set(store.iter_locations("docs/team"))
    found: list[str | None] = []
    verifier = StorageVerifier(ours.manager, engine=engine, grace=NOW, found=lambda one: found.append(one.location))
    assert verifier.verify().undeclared == 2
    assert orphan in found and not before & {*found}
    report = StorageGarbageCollector(ours.manager, engine=engine, grace=NOW).collect(dry_run=False)
    assert (report.deleted, report.undeclared, report.complete) == (1, 2, True)
    ours.manager.sweep(engine, grace=NOW)
    assert set(store.iter_locations("docs/team")) == before and theirs in before
    assert inside.contents() == [b"theirs"]
