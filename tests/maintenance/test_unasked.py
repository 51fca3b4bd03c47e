"""File fields that the registry notes and that nobody asks stop deletion by listing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, StaticPool, create_engine, insert, text
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
from granite_storage.exceptions import ReplicaError
from granite_storage.gc import StorageGarbageCollector
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.orm.sites import Site
from granite_storage.verify import StorageVerifier
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World


@pytest.fixture
def partly(world: World) -> StorageManager:
    """A manager on the same database and store, of a program that imports one of the models."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")
        scan: FileMapped[StoredFile | None] = FileColumn("documents")
        cover: FileMapped[StoredFile | None] = FileColumn("covers")

    with world.session() as session:
        session.add(world.Document(report=b"report"))
        session.add(world.Author(country="nl", number=1, contract=b"contract", photo=b"photo"))
        session.commit()
    put_old(world.backend, 25 * HOUR)
    manager = StorageManager({"memory": world.backend}, world.manager.policies)
    manager.attach(Base)
    return manager


def test_a_collection_deletes_nothing(world: World, partly: StorageManager) -> None:
    before = world.objects()
    report = StorageGarbageCollector(partly, engine=world.engine, grace=0 * HOUR).collect(dry_run=False, force=True)
    assert world.objects() == before
    assert (report.scanned, report.deleted, report.complete) == (0, 0, False)
    assert "2 file fields that nobody asked, author.contract, person.photo" in report.refused[0]
    assert "import" in report.refused[0]


def test_nor_does_a_sweep_or_a_repair(world: World, partly: StorageManager) -> None:
    before = world.objects()
    report = partly.sweep(world.engine, grace=0 * HOUR, force=True)
    assert "author.contract" in report.refused[0] and report.watermark is None
    verified = StorageVerifier(partly, engine=world.engine, grace=0 * HOUR).verify(repair=True, force=True)
    assert "author.contract" in verified.refused[0] and verified.repaired == 0
    assert partly.sweep(world.engine).freed == 0 and world.objects() == before


def test_nor_does_a_worker_that_knows_fewer_models(world: World, partly: StorageManager) -> None:
    before = world.objects()
    collector = StorageGarbageCollector(world.manager, engine=world.engine, grace=0 * HOUR)
    with ThreadPoolExecutor(1) as executor:
        report = collector.collect(
            dry_run=False,
            force=True,
            executor=executor,
            make=lambda: StorageGarbageCollector(partly, engine=world.engine, grace=0 * HOUR),
        )
    assert world.objects() == before and "author.contract" in report.refused[0]


def test_nor_does_a_worker_of_a_repair_that_knows_fewer_models(world: World, partly: StorageManager) -> None:
    before = world.objects()
    with ThreadPoolExecutor(2) as executor:
        report = StorageVerifier(world.manager, engine=world.engine, grace=0 * HOUR).verify(
            repair=True,
            force=True,
            executor=executor,
            make=lambda: StorageVerifier(partly, engine=world.engine, grace=0 * HOUR),
        )
    assert report.repaired == 0 and report.status == "failed"
    assert partly.sweep(world.engine).freed == 0 and world.objects() == before


def test_a_table_that_was_renamed_meanwhile_still_names_its_objects(world: World) -> None:
    world.add(report=b"kept")
    with world.session() as session:
        session.add(world.Author(country="nl", number=1, contract=b"contract"))
        session.commit()
    before = world.objects()
    with world.engine.begin() as connection:
        connection.execute(text("ALTER TABLE author RENAME TO writer"))
    try:
        collector = StorageGarbageCollector(world.manager, engine=world.engine, grace=0 * HOUR)
        report = collector.collect(dry_run=False, force=True)
        assert "author.contract" in report.refused[0] and world.objects() == before
    finally:
        with world.engine.begin() as connection:
            connection.execute(text("ALTER TABLE writer RENAME TO author"))
    assert collector.collect(dry_run=False).complete


def test_a_column_that_is_gone_names_nothing(world: World) -> None:
    world.add(report=b"kept")
    collector = StorageGarbageCollector(world.manager, engine=world.engine)
    with world.engine.begin() as connection:
        noted = "INSERT INTO granite_storage_fields (schema_name, table_name, column_name) VALUES ('', :table, :column)"
        connection.execute(text(noted), {"table": "document", "column": "dropped"})
    assert collector.collect().complete
    with world.engine.begin() as connection:
        connection.execute(text(noted), {"table": "folder", "column": "id"})
    assert "folder.id" in collector.collect().refused[0]


def test_one_schema_of_many_is_not_enough_where_they_share_a_registry(memory_engine: Engine) -> None:
    """Schema-per-tenant by schema_translate_map, with the registry in the default schema."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    class Document(Base):
        __tablename__ = "document"
        __table_args__: Any = {"schema": "tenant"}
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
    manager.attach(Base)
    with memory_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for tenant in "ab":
            connection.execute(text(f"ATTACH DATABASE ':memory:' AS tenant_{tenant}"))
    engines = [memory_engine.execution_options(schema_translate_map={"tenant": f"tenant_{tenant}"}) for tenant in "ab"]
    for engine in engines:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Document(report=b"kept"))
            session.commit()
    one = StorageGarbageCollector(manager, engine=engines[0], grace=0 * HOUR).collect(dry_run=False, force=True)
    assert one.deleted == 0 and "tenant_b.document.report" in one.refused[0]
    assert StorageGarbageCollector(manager, engine=engines, grace=0 * HOUR).collect(dry_run=False).referenced == 2


def _model(name: str) -> tuple[MetaData, Any]:
    """A MetaData of its own with a model that has one file field, ``report``."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    class Model(Base):
        __tablename__ = name
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    return Base.metadata, Model


@pytest.mark.databases("sqlite")
def test_a_table_that_is_asked_in_another_database_is_not_asked_here(tmp_path: Path) -> None:
    documents, document = _model("document")
    invoices, invoice = _model("invoice")
    engines = [create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two")]
    for engine in engines:
        documents.create_all(engine)
    invoices.create_all(engines[1])
    backend = MemoryStorageBackend()
    manager = StorageManager(
        {"memory": backend}, {"documents": StoragePolicy("documents", "memory", key_prefix="docs")}
    )
    manager.attach(documents, engine=engines[0])
    manager.attach(invoices, engine=engines[1])
    with Session(engines[1]) as session:
        session.add(invoice(report=b"invoice"))
        session.commit()
    named = put_old(backend, 25 * HOUR)
    with engines[1].begin() as connection:  # whose document.report nobody asks
        row = {"report": StoredObjectRef("documents", "memory", named, 3, "")}
        connection.execute(insert(document.__table__), row)
    report = StorageGarbageCollector(manager).collect(dry_run=False)
    assert "two.db' has 1 file field that nobody asked, document.report" in report.refused[0]
    assert "document.report" in manager.sweep().refused[0]
    assert "document.report" in StorageVerifier(manager).verify(repair=True).refused[0]
    assert named in set(backend.iter_locations("docs"))
    for engine in engines:
        engine.dispose()


@pytest.mark.databases("sqlite")
def test_two_databases_without_an_id_or_a_name_are_two() -> None:
    documents, _ = _model("document")
    letters, _ = _model("letter")
    one, two = (create_engine("sqlite://", poolclass=StaticPool) for _ in range(2))
    for engine in (one, two):
        documents.create_all(engine)
    letters.create_all(two)
    for engine in (one, two):
        with engine.begin() as connection:
            connection.execute(text("UPDATE granite_storage_fields SET database_id = NULL"))
    (problem,) = unasked_fields([Site.of(one, documents), Site.of(two, letters)])
    assert "document.report" in problem
    assert [*unasked_fields([Site.of(one, documents)])] == []
    one.dispose()
    two.dispose()


def test_what_may_be_the_rest_of_a_password_is_not_told_as_where_a_database_is(
    world: World, partly: StorageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = world.engine.url.set(host="s3cret", database="s3cret@host:5432/name")
    monkeypatch.setattr(world.engine, "url", url)
    (reason,) = unasked_fields([Site.of(world.engine, metadata) for metadata in partly.attached])
    assert reason.startswith("database *** has 2 file fields") and "s3cret" not in reason
    monkeypatch.setattr("granite_storage.maintenance.horizon._is_replica", lambda connection: True)
    with pytest.raises(ReplicaError, match=r"database \*\*\* at \*\*\* is a replica"):
        partly.sweep(world.engine)
