"""The garbage collection finds everything that nobody names, and deletes nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, QueuePool, create_engine, event, insert, pool, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
)
from granite_storage.backends.base import Ability, ObjectInfo
from granite_storage.backends.memory import _Object
from granite_storage.exceptions import ConfigurationError, ReplicaError, StorageError
from granite_storage.gc import StorageGarbageCollector
from granite_storage.locations import uuid7
from granite_storage.maintenance import ranges
from granite_storage.maintenance.garbage import collect as collecting
from tests.databases import Database
from tests.maintenance.ages import HOUR, TELL_NONE, put_old
from tests.maintenance.watching import asked, assert_served_by_index, waiting_transaction
from tests.orm.worlds import World

DAY = timedelta(days=1)


def _collector(world: World, references: Any = None, **options: Any) -> StorageGarbageCollector:
    return StorageGarbageCollector(world.manager, references, engine=world.engine, **options)


def _put(world: World, location: str, age: timedelta = 25 * HOUR) -> str:
    """An object of another layout than ours, as 0.1.0 or another program put it."""
    world.backend._objects[location] = _Object(b"foreign", datetime.now(UTC) - age)
    return location


def _ref(location: str, backend: str = "memory", policy: str = "documents") -> StoredObjectRef:
    return StoredObjectRef(policy, backend, location, 3, "")


# What it finds and deletes


def test_it_deletes_what_is_old_and_named_by_nobody_and_counts_everything(world: World) -> None:
    world.add(report=b"report", scan=b"scan", cover=b"cover")
    with world.session() as session:
        session.add(world.Author(country="nl", number=1, kind="author", photo=b"photo", contract=b"contract"))
        session.commit()
    named = world.objects()
    old = [
        put_old(world.backend, 400 * DAY),
        put_old(world.backend, 25 * HOUR),
        put_old(world.backend, DAY, prefix="covers"),
    ]
    young = put_old(world.backend, 23 * HOUR)
    touched = put_old(world.backend, 40 * DAY, modified=HOUR)  # the younger of the two times counts
    report = _collector(world).collect()
    assert (report.scanned, report.referenced, report.orphaned, report.young) == (10, 5, 5, 2)
    assert (report.orphaned_bytes, report.deletable, report.deleted, report.dry_run) == (15, 3, 0, True)
    assert report.oldest is not None and abs(report.oldest - (datetime.now(UTC) - 400 * DAY)) < HOUR
    assert world.objects() == named | {*old, young, touched}
    report = _collector(world).collect(dry_run=False)
    assert (report.orphaned, report.deleted, report.deleted_bytes, report.complete) == (5, 3, 9, True)
    assert world.objects() == named | {young, touched}
    report = _collector(world, grace=timedelta(0)).collect(dry_run=False)
    assert (report.orphaned, report.deleted) == (2, 2)
    assert str(report) == "scanned 7 objects: 5 referenced, 2 orphaned (6 bytes); deleted 2"
    world.check()


def test_it_looks_only_below_the_prefix_of_the_policy_it_is_asked_for(world: World) -> None:
    world.add(report=b"kept")
    beside = [put_old(world.backend, 30 * DAY, prefix=prefix) for prefix in ("docs-old", "doc", "other/docs", "covers")]
    orphan = put_old(world.backend, 30 * DAY)
    report = _collector(world).collect(storage_key="documents", dry_run=False)
    assert (report.scanned, report.deleted) == (2, 1)
    assert orphan not in world.objects() and set(beside) <= world.objects()
    with pytest.raises(StorageError, match="Unknown storage policy: 'reports'"):
        _collector(world).collect(storage_key="reports")


def test_it_looks_below_former_prefixes_too(world: World) -> None:
    world.add(report=b"before")
    policy = StoragePolicy("documents", "memory", key_prefix="papers", former_prefixes=("docs",))
    with world.manager.override({"memory": world.backend}, {"documents": policy}):
        world.add(report=b"now")
        put_old(world.backend, 30 * DAY, prefix="docs")
        put_old(world.backend, 30 * DAY, prefix="papers")
        assert _collector(world).collect(storage_key="documents", dry_run=False).deleted == 2
    world.check()


def test_an_object_of_another_backend_keeps_none_of_its_name(world: World) -> None:
    archive = MemoryStorageBackend()
    with world.manager.override({"memory": world.backend, "archive": archive}, world.manager.policies):
        location = put_old(world.backend, 30 * DAY)
        named = put_old(world.backend, 30 * DAY)
        former = put_old(world.backend, 30 * DAY)  # by a backend's name that the manager no longer has
        with world.engine.begin() as connection:
            for number, (where, backend) in enumerate([(location, "archive"), (named, "memory"), (former, "disk")]):
                values = {"id": number + 1, "report": _ref(where, backend)}
                connection.execute(insert(world.Document.__table__), values)
        assert _collector(world).collect(dry_run=False).deleted == 1
        assert world.objects() == {named, former}


def test_names_in_any_script_are_found_in_the_order_of_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """U+FFxx sorts after U+10000 and above in UTF-16, and "a-b" and "a/b" are sorted in many ways by languages."""
    monkeypatch.setattr(ranges, "STRETCH", 3)
    names = [
        "a-b",
        "a/b",
        "a.b",
        "A/b",
        "ab",
        "é",
        "z",
        "Z",
        "_",
        "\uffee",
        "\U00010000",
        "\U0001f4c4",
        "ß",
        "ss",
        "a b",
    ]
    locations = [_put(world, f"docs/{name}.txt") for name in names]
    with world.engine.begin() as connection:
        for number, location in enumerate(locations):
            connection.execute(insert(world.Document.__table__), {"id": number + 1, "report": _ref(location)})
    orphans = [_put(world, f"docs/{name}") for name in ("a", "a-b.txt ", "É.txt", "\uffee", "\U0001f4c5.txt")]
    report = _collector(world, list).collect()
    assert (report.referenced, report.orphaned) == (len(locations), len(orphans))


def test_a_location_that_is_named_twice_or_by_nothing_that_is_there_changes_nothing(world: World) -> None:
    key = world.add(report=b"kept")
    with world.session() as session:
        ref = session.get_one(world.Document, key).report.ref
    with world.engine.begin() as connection:
        connection.execute(insert(world.Document.__table__), {"id": 50, "report": ref, "scan": ref})
        for number in range(60, 70):
            missing = _ref(f"docs/2026/01/{number}/gone")
            connection.execute(insert(world.Document.__table__), {"id": number, "report": missing})
    report = _collector(world).collect()
    assert (report.scanned, report.referenced, report.orphaned) == (1, 1, 0)


def test_what_is_freed_and_retained_is_left_to_the_outbox(world: World) -> None:
    policies = {
        **world.manager.policies,
        "documents": StoragePolicy("documents", "memory", key_prefix="docs", retain=DAY),
    }
    with world.manager.override({"memory": world.backend}, policies):
        world.add(report=b"kept")
        key = world.add(report=b"retained")
        with world.session() as session:
            session.delete(session.get_one(world.Document, key))
            session.commit()
        report = _collector(world, grace=timedelta(0)).collect(dry_run=False)
    assert (report.referenced, report.awaiting, report.orphaned, report.deleted) == (1, 1, 0, 0)
    assert world.contents() == [b"kept", b"retained"]


def test_an_upload_that_is_committed_meanwhile_is_no_orphan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed after the bulk question was asked; by then a transaction as old as the grace period had it stored."""
    location = put_old(world.backend, 30 * DAY)
    world.add(report=b"kept")
    asked = collecting.References.unnamed

    def unnamed(self: Any, backend_key: str, locations: Any) -> set[tuple[str]]:
        left = asked(self, backend_key, locations)
        if (location,) in left:
            with world.engine.begin() as connection:
                connection.execute(insert(world.Document.__table__), {"id": 99, "report": _ref(location)})
        return left

    monkeypatch.setattr(collecting.References, "unnamed", unnamed)
    report = _collector(world).collect(dry_run=False)
    assert (report.referenced, report.orphaned) == (2, 0)
    world.check()


def test_it_is_asked_once_more_right_before_an_object_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    location = put_old(world.backend, 30 * DAY)
    world.add(report=b"kept")
    may = collecting.GarbageRun.may_delete

    def may_delete(self: Any, **options: Any) -> bool:
        with world.engine.begin() as connection:
            connection.execute(insert(world.Document.__table__), {"id": 99, "report": _ref(location)})
        return may(self, **options)

    monkeypatch.setattr(collecting.GarbageRun, "may_delete", may_delete)
    report = _collector(world).collect(dry_run=False)
    assert (report.orphaned, report.deleted) == (1, 0)
    world.check()


# What names objects


def test_it_finds_every_file_column_of_the_models_it_is_given(world: World) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData()

    class Page(Other):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        plain: Mapped[Any] = mapped_column(StoredObjectRefType())
        unindexed: FileMapped[StoredFile | None] = FileColumn("documents", location_index=False)

    Other.metadata.create_all(world.engine)
    named = [put_old(world.backend, 30 * DAY) for _ in range(2)]
    put_old(world.backend, 30 * DAY)
    with world.engine.begin() as connection:
        connection.execute(insert(Page.__table__), {"id": 1, "plain": _ref(named[0]), "unindexed": _ref(named[1])})
    world.add(report=b"kept")
    assert _collector(world, Other).collect().referenced == 3
    report = _collector(world, [Other, world.Base.metadata]).collect(dry_run=False)
    assert (report.referenced, report.deleted) == (3, 1)
    Other.metadata.drop_all(world.engine)


def test_a_table_that_does_not_exist_names_nothing(world: World) -> None:
    class Later(DeclarativeBase):
        metadata = MetaData()

    class Page(Later):
        __tablename__ = "not_yet_migrated"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    world.add(report=b"kept")
    with world.engine.begin() as connection:  # its own outbox and registry are the ones of the other models
        assert Page.__tablename__ not in world.engine.dialect.get_table_names(connection)
    assert _collector(world, Later).collect().referenced == 1


def test_a_table_that_does_not_exist_is_no_error_where_nothing_names_anything(world: World) -> None:
    class Later(DeclarativeBase):
        metadata = MetaData()

    class Page(Later):
        __tablename__ = "not_yet_migrated"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    put_old(world.backend, 30 * DAY)
    assert "names any object" in _collector(world, Later).collect().refused[0]


def test_several_databases_are_all_asked(world: World, memory_engine: Engine) -> None:
    world.add(report=b"here")
    world.Base.metadata.create_all(memory_engine)
    with Session(memory_engine) as session:
        session.add(world.Document(report=b"there"))
        session.commit()
    alone = _collector(world).collect()
    assert "mark of 1 other database" in alone.refused[0] and alone.scanned == 0
    both = StorageGarbageCollector(world.manager, engine=[world.engine, memory_engine]).collect()
    assert (both.referenced, both.orphaned, both.complete) == (2, 0, True)


def test_an_engine_that_nobody_would_ask_is_refused(world: World, memory_engine: Engine) -> None:
    """As ``--database`` of the command line, where the application attached its models with an engine."""
    world.manager.attach(world.Base, engine=world.engine)
    with pytest.raises(ConfigurationError, match="attached with other engines"):
        StorageGarbageCollector(world.manager, engine=memory_engine).collect()
    with pytest.raises(ConfigurationError, match="attached with other engines"):
        world.manager.sweep(memory_engine)
    assert StorageGarbageCollector(world.manager, engine=world.engine.execution_options()).collect().complete


def test_objects_of_other_layouts_go_only_where_it_is_declared_what_names_them(world: World) -> None:
    world.add(report=b"kept")
    kept = world.manager.put_bytes(
        storage_key="documents", model_name="page", entity_id="1", field_name="scan", content=b"kept"
    )
    _put(world, "docs/page/2-deadbeef.txt")
    report = _collector(world, grace=timedelta(0)).collect(dry_run=False)
    assert (report.orphaned, report.undeclared, report.deleted) == (2, 2, 0)
    assert "2 whose references nobody declared" in str(report)
    world.manager.add_references(lambda: [kept, None])
    report = _collector(world, grace=timedelta(0)).collect(dry_run=False)
    assert (report.referenced, report.orphaned, report.undeclared, report.deleted) == (2, 1, 0, 1)
    assert kept.location in world.objects()


def test_an_entity_whose_id_is_a_uuid_of_version_7_makes_no_location_of_ours(world: World) -> None:
    world.add(report=b"kept")
    entity = {"storage_key": "documents", "model_name": "page", "entity_id": str(uuid7()), "field_name": "scan"}
    kept = world.manager.put_bytes(**entity, content=b"kept")
    report = _collector(world, grace=timedelta(0)).collect(dry_run=False)
    assert (report.orphaned, report.undeclared, report.deleted) == (1, 1, 0)
    assert kept.location in world.objects()


def test_prefixes_inside_each_other_count_each_object_once() -> None:
    store = MemoryStorageBackend()
    policies = {name: StoragePolicy(name, "store", key_prefix=name) for name in ("docs", "docs/old")}
    manager = StorageManager({"store": store}, policies)
    kept = [manager.store(name, b"kept").ref for name in policies]
    gone = [put_old(store, 48 * HOUR, prefix=name) for name in policies]
    collector = StorageGarbageCollector(manager, lambda: kept)
    report = collector.collect(storage_key="docs", dry_run=False)
    assert (report.scanned, report.referenced, report.deleted) == (2, 1, 1)
    report = collector.collect(dry_run=False)
    assert (report.scanned, report.referenced, report.deleted) == (3, 2, 1)
    assert not {*gone} & {*store.iter_locations()}


def test_it_takes_a_callable_that_gives_refs_as_0_1_0_did(tmp_path: Path) -> None:
    backend = LocalStorageBackend(tmp_path)
    manager = StorageManager({"local": backend}, {"documents": StoragePolicy("documents", "local", None, "docs")})
    put = {"storage_key": "documents", "model_name": "page", "field_name": "scan"}
    refs = [manager.put_bytes(**put, entity_id=str(n), content=b"x") for n in range(3)]
    (tmp_path / "docs-old").mkdir()
    (tmp_path / "docs-old" / "x").write_bytes(b"another's")
    collector = StorageGarbageCollector(manager, iter_references := lambda: iter([refs[0], None]), grace=timedelta(0))
    assert [*iter_references()] == [refs[0], None]
    report = collector.collect(storage_key="documents", dry_run=True)
    assert (report.scanned, report.referenced, report.orphaned, report.deleted) == (3, 1, 2, 0)
    report = collector.collect(storage_key="documents", dry_run=False)
    assert (report.scanned, report.referenced, report.orphaned, report.deleted) == (3, 1, 2, 2)
    assert sorted(backend.iter_locations()) == ["docs-old/x", refs[0].location]


def test_a_declared_reference_keeps_an_object_from_the_sweep_too(world: World) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 25 * HOUR)
    world.manager.add_references(lambda: [_ref(location)])
    assert world.manager.sweep(world.engine).orphans == 0
    assert _collector(world).collect(dry_run=False).orphaned == 0
    world.manager.references.clear()
    assert world.manager.sweep(world.engine, since=datetime.now(UTC) - 3 * DAY).orphans == 1


def test_a_declared_reference_keeps_an_object_that_stands_in_the_outbox(world: World) -> None:
    key = world.add(report=b"freed")
    (location,) = world.objects()
    world.add(report=b"other")
    retaining = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=1))
    with world.manager.override({"memory": world.backend}, {"documents": retaining}), world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.commit()
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE granite_storage_outbox SET not_before = NULL"))
    world.manager.add_references(lambda: [_ref(location)])
    report = world.manager.sweep(world.engine)
    assert (report.freed, report.named) == (0, 1) and location in world.objects()


def test_declared_references_may_use_the_only_connection_there_is(database: Database) -> None:
    world = World(database.engine(poolclass=pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=2))
    world.add(report=b"kept")
    world.manager.add_references(lambda: world.engine.connect().close() or [])  # type: ignore[func-returns-value]
    world.backend.before_delete = _refuse
    with world.session() as session:
        session.add(document := world.Document(report=b"freed"))
        session.commit()
        session.delete(document)
        session.commit()
    world.backend.before_delete = lambda location: None
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE granite_storage_outbox SET not_before = NULL"))
    put_old(world.backend, 30 * DAY)
    try:
        assert world.manager.sweep(world.engine).freed == 1
        assert _collector(world).collect(dry_run=False).deleted == 1
        world.check()
    finally:
        world.engine.dispose()


def _refuse(location: str) -> None:
    raise StorageError("locked")


def test_declared_references_that_cannot_be_read_stop_everything(world: World) -> None:
    put_old(world.backend, 30 * DAY)
    world.add(report=b"kept")
    with pytest.raises(StorageError, match=r"not dict; StoredObjectRef\.from_dict\(\)"):
        _collector(world, lambda: [{"location": "docs/x"}]).collect(dry_run=False)

    def broken() -> Iterator[StoredObjectRef]:
        yield _ref("docs/x")
        raise RuntimeError("the other database is down")

    with pytest.raises(RuntimeError, match="down"):
        _collector(world, broken).collect(dry_run=False)
    assert len(world.objects()) == 2


def test_without_anything_that_could_name_objects_it_refuses_to_begin() -> None:
    manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
    with pytest.raises(ConfigurationError, match="give the models"):
        StorageGarbageCollector(manager)
    with pytest.raises(ConfigurationError, match="a callable that gives refs, not 'document'"):
        StorageGarbageCollector(manager, "document")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes a callable"):
        manager.add_references([_ref("docs/x")])  # type: ignore[arg-type]


# What stops it


@pytest.mark.parametrize("value", [{"legacy_inline_text": "hello"}, {"size": 3}, [1], "docs/x", 7, *TELL_NONE])
def test_a_value_that_tells_no_location_stops_deletion(world: World, value: Any) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    elsewhere = MemoryStorageBackend()
    moved = put_old(elsewhere, 30 * DAY, prefix="covers")  # where `move` may have put what it named
    policies = {**world.manager.policies, "covers": StoragePolicy("covers", "elsewhere")}
    with world.manager.override({"memory": world.backend, "elsewhere": elsewhere}, policies):
        kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
        with world.engine.begin() as connection:
            connection.execute(
                text(f"INSERT INTO document (id, scan) VALUES (7, (:v){kind})"), {"v": json.dumps(value)}
            )
            connection.execute(text(f"INSERT INTO document (id, scan) VALUES (8, (:v){kind})"), {"v": "null"})
        report = _collector(world).collect(dry_run=False)
        assert (report.orphaned, report.deleted, report.complete) == (2, 0, False)
        assert len(world.objects()) == 2 and moved in set(elsewhere.iter_locations())
    (found,) = report.unreadable
    assert (found.column, found.key) == ("document.scan", (7,)) and found.problem
    assert "'documents'" in report.refused[0] and "document.scan" in report.refused[0]


def test_unreadable_rows_hold_no_transaction(world: World) -> None:
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO document (id, scan) VALUES (:id, (:v){kind})"),
            [{"id": number, "v": "7"} for number in range(1, 151)],
        )
    one = create_engine(world.engine.url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=1)
    report = StorageGarbageCollector(world.manager, engine=one).collect()
    assert len(report.unreadable) == 100
    one.dispose()


def test_a_broken_value_that_tells_a_location_keeps_what_is_there(world: World) -> None:
    world.add(report=b"kept")
    location, orphan = put_old(world.backend, 30 * DAY), put_old(world.backend, 30 * DAY)
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        value = json.dumps({"location": location, "size": -1})
        connection.execute(text(f"INSERT INTO document (id, scan) VALUES (7, (:value){kind})"), {"value": value})
    assert _collector(world).collect(dry_run=False).deleted == 1
    assert location in world.objects() and orphan not in world.objects()


def test_more_than_a_tenth_of_many_needs_an_explicit_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.brake._OBJECTS", 50)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(90))
        session.commit()
    for _ in range(11):
        put_old(world.backend, 30 * DAY)
    report = _collector(world).collect(dry_run=False)
    assert report.deleted == 0 and "11 of 101 objects" in report.refused[0]
    assert "collect(force=True)" in report.refused[0] and not report.complete
    assert _collector(world).collect(dry_run=False, force=True).deleted == 11
    world.check()


def test_if_nothing_names_anything_nothing_goes_without_the_word(world: World) -> None:
    put_old(world.backend, 30 * DAY)
    report = _collector(world).collect(dry_run=False)
    assert report.deleted == 0 and "nothing names any object" in report.refused[0]
    assert _collector(world).collect(dry_run=False, force=True).deleted == 1


def test_a_declared_reference_elsewhere_is_one_too(world: World) -> None:
    location = put_old(world.backend, 25 * HOUR)
    world.manager.add_references(lambda: [StoredObjectRef("documents", "memory", "elsewhere/1", 1, "")])
    report = _collector(world).collect(dry_run=False)
    assert (report.refused, report.deleted) == ([], 1) and location not in world.objects()


@pytest.mark.databases("postgresql", "mariadb")
def test_it_refuses_a_replica(world: World) -> None:
    put_old(world.backend, 30 * DAY)
    asked = {"postgresql": "SELECT pg_is_in_recovery()", "mariadb": "SELECT @@read_only"}[world.engine.dialect.name]

    @event.listens_for(world.engine, "before_cursor_execute", retval=True)
    def lag(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> tuple[str, Any]:
        return ("SELECT 1" if statement == asked else statement), parameters

    with pytest.raises(ReplicaError, match="primary"):
        _collector(world).collect(dry_run=False, force=True)
    assert len(world.objects()) == 1


def test_another_owners_prefix_is_not_looked_at(world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    world.manager.ownership.forget([world.backend])  # as a process that has just begun
    StorageManager({"memory": world.backend}, {}, owner="other").ownership.take(
        world.backend, world.manager.policies["documents"], set()
    )
    report = _collector(world).collect(dry_run=False)
    assert report.scanned == 0 and "belongs to the owner 'other'" in report.refused[0]
    assert len(world.objects()) == 2


@pytest.mark.databases("mariadb")
def test_prepared_transactions_of_unknown_age_keep_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.horizon._LOOKS", 2)
    world.add(report=b"kept")
    location = put_old(world.backend, 40 * DAY)
    with waiting_transaction(world.engine):
        report = _collector(world).collect(dry_run=False)
        assert location in world.objects() and "XA RECOVER" in report.refused[0]


def test_what_the_store_does_not_delete_is_counted_and_stays(world: World) -> None:
    world.add(report=b"kept")
    locked = put_old(world.backend, 30 * DAY)

    def refuse(location: str) -> None:
        raise StorageError("locked")

    world.backend.before_delete = refuse
    report = _collector(world).collect(dry_run=False)
    assert (report.deleted, report.failed, report.complete) == (0, 1, False) and locked in world.objects()


# Any backend, any size


class Unordered:
    """A backend of 0.1.0's protocol: it tells no order, no sizes and no times."""

    backend_name = "unordered"

    def __init__(self, inner: MemoryStorageBackend) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name in ("abilities", "iter_objects", "delete_many", "stat"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return iter(sorted(self._inner.iter_locations(prefix), reverse=True))


def test_a_listing_that_repeats_itself_counts_each_object_once(world: World) -> None:
    class Repeating(Unordered):
        def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
            return iter([*super().iter_locations(prefix)] * 2)

    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    with world.manager.override({"memory": Repeating(world.backend)}):
        report = _collector(world).collect(dry_run=False)
    assert (report.scanned, report.referenced, report.orphaned, report.deleted) == (2, 1, 1, 1)


def test_a_disk_without_room_for_temporary_files_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(name: str, **options: Any) -> sqlite3.Connection:
        made = connect(name, **options)
        if name == "":
            made.execute("PRAGMA max_page_count = 4")
        return made

    world.add(report=b"kept")
    orphans = {put_old(world.backend, 30 * DAY) for _ in range(200)}
    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StorageError, match="SQLITE_TMPDIR"):
        _collector(world).collect(dry_run=False)
    assert orphans < world.objects()


def test_a_backend_that_lists_in_no_order_is_collected_exactly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(7))
        session.commit()
    for age in (2, 30, 400):
        put_old(world.backend, age * DAY)
    put_old(world.backend, HOUR)
    unknown = _put(world, "docs/page/2-deadbeef.txt", 40 * DAY)  # nobody knows how old
    with world.manager.override({"memory": Unordered(world.backend)}, world.manager.policies):  # type: ignore[dict-item]
        report = _collector(world, list).collect(dry_run=False)
    assert (report.scanned, report.referenced, report.orphaned) == (12, 7, 5)
    assert (report.young, report.deleted) == (2, 3) and unknown in world.objects()


class Counting(MemoryStorageBackend):
    """A store of as many objects as a test says, which it makes as they are listed."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        if prefix == "docs":
            for number in range(self.count):
                yield ObjectInfo(f"docs/{number:032}", 1, datetime.now(UTC))


@pytest.mark.databases("sqlite")
def test_memory_does_not_grow_with_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 000 objects of a listing take more than 8 MiB, which held them all."""
    monkeypatch.setattr(ranges, "STRETCH", 1000)
    with world.manager.override({"memory": Counting(40_000)}, world.manager.policies):
        tracemalloc.start()
        try:
            assert _collector(world).collect().orphaned == 40_000
            assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
        finally:
            tracemalloc.stop()


def test_no_transaction_is_open_while_the_store_is_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long one would keep PostgreSQL from vacuuming, and SQLite's writers waiting."""
    monkeypatch.setattr(ranges, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(5))
        session.commit()
    open_then = []
    listed = world.backend.iter_objects

    def iter_objects(*arguments: Any, **options: Any) -> Iterator[ObjectInfo]:
        for one in listed(*arguments, **options):
            open_then.append(world.engine.pool.checkedout())  # type: ignore[attr-defined]
            yield one

    monkeypatch.setattr(world.backend, "iter_objects", iter_objects)
    assert _collector(world).collect().scanned == 5
    assert set(open_then) == {0}


def test_the_questions_use_the_location_index(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(50))
        session.commit()
    with asked(world.engine, lambda text: "document" in text and ("BETWEEN" in text or "ANY" in text)) as statements:
        _collector(world).collect()
    assert_served_by_index(world.engine, statements)


def test_orphans_go_in_batches(s3_bucket: Any) -> None:
    from granite_storage.backends.s3 import S3StorageBackend

    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_bucket.client)
    manager = StorageManager({"s3": backend}, {"documents": StoragePolicy("documents", "s3")}, grace=DAY)
    kept = manager.store("documents", b"kept")
    for number in range(1100):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=f"documents/2020/01/01/{number:05}", Body=b"x")
    sent: list[str] = []
    s3_bucket.client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
    collector = StorageGarbageCollector(manager, lambda: [kept], grace=timedelta(0))
    assert collector.collect(dry_run=False, force=True).deleted == 1100
    assert sent.count("DeleteObjects") == 2 and sent.count("ListObjectsV2") <= 5
    assert not {"HeadObject", "GetObject", "DeleteObject"} & set(sent)


def test_unfinished_uploads_are_removed_too(tmp_path: Path) -> None:
    backend = LocalStorageBackend(tmp_path)
    manager = StorageManager({"local": backend}, {"documents": StoragePolicy("documents", "local")})
    kept = manager.store("documents", b"kept")
    (tmp_path / "documents" / "2020" / "01" / "01").mkdir(parents=True)
    assert Ability.LEFTOVERS in backend.abilities
    collector = StorageGarbageCollector(manager, lambda: [kept], grace=timedelta(0))
    assert collector.collect().leftovers >= 1
    assert (tmp_path / "documents" / "2020").exists()
    assert collector.collect(dry_run=False).leftovers >= 1
    assert not (tmp_path / "documents" / "2020").exists()


def test_an_upload_that_is_under_way_is_not_cut_off(tmp_path: Path) -> None:
    """What is younger than the grace period may be an upload of this very moment."""
    backend = LocalStorageBackend(tmp_path)
    manager = StorageManager({"local": backend}, {"documents": StoragePolicy("documents", "local")})
    kept = manager.store("documents", b"kept")
    young, old = tmp_path / ".incoming" / "young", tmp_path / ".incoming" / "old"
    for path, age in ((young, 23 * HOUR), (old, 25 * HOUR)):
        path.write_bytes(b"a part")
        written = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (written, written))
    assert StorageGarbageCollector(manager, lambda: [kept]).collect(dry_run=False).leftovers == 1
    assert young.exists() and not old.exists()


def test_uploads_below_another_owners_prefix_are_not_aborted(s3_bucket: Any) -> None:
    from granite_storage.backends.s3 import S3StorageBackend

    client = s3_bucket.client
    backend = S3StorageBackend(bucket=s3_bucket.name, client=client)
    policy = StoragePolicy("documents", "s3")
    StorageManager({"s3": backend}, {}, owner="other").ownership.take(backend, policy, set())
    manager = StorageManager({"s3": backend}, {"documents": policy})
    client.create_multipart_upload(Bucket=s3_bucket.name, Key="documents/2020/01/01/x")
    report = StorageGarbageCollector(manager, list, grace=timedelta(0)).collect(dry_run=False)
    assert report.leftovers == 0 and "belongs to the owner 'other'" in report.refused[0]
    assert len(client.list_multipart_uploads(Bucket=s3_bucket.name)["Uploads"]) == 1


def test_multipart_uploads_that_nobody_completes_are_aborted(s3_bucket: Any) -> None:
    from granite_storage.backends.s3 import S3StorageBackend

    client = s3_bucket.client
    backend = S3StorageBackend(bucket=s3_bucket.name, client=client)
    manager = StorageManager({"s3": backend}, {"documents": StoragePolicy("documents", "s3")})
    for key in ("documents/2020/01/01/x", "documents-old/x"):
        client.create_multipart_upload(Bucket=s3_bucket.name, Key=key)
    collector = StorageGarbageCollector(manager, list, grace=timedelta(0))
    assert collector.collect().leftovers == 1
    assert len(client.list_multipart_uploads(Bucket=s3_bucket.name)["Uploads"]) == 2
    assert collector.collect(dry_run=False).leftovers == 1
    (left,) = client.list_multipart_uploads(Bucket=s3_bucket.name)["Uploads"]
    assert left["Key"] == "documents-old/x"


def test_many_databases_are_each_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "STRETCH", 2)
    monkeypatch.setattr("granite_storage.maintenance.garbage.references.MANY_SITES", 0)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(9))
        session.commit()
    put_old(world.backend, 30 * DAY)
    with world.statements() as sent:
        report = _collector(world).collect()
    assert (report.referenced, report.orphaned) == (9, 1)
    assert not any("BETWEEN" in statement or "location') = ANY" in statement for statement in sent)


def test_progress_is_told_as_it_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(5))
        session.commit()
    told: list[int] = []
    _collector(world, progress=lambda report: told.append(report.scanned)).collect()
    assert told[:3] == [2, 4, 5] and told[-1] == 5


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
@pytest.mark.databases("sqlite", "postgresql")
def test_it_can_be_awaited(database: Database, world: World, kind: str) -> None:
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)

    async def collect() -> int:
        engine = create_async_engine(database.url_through(entry)) if kind == "asynchronous" else world.engine
        collector = StorageGarbageCollector(world.manager, engine=engine)
        try:
            return (await collector.acollect(dry_run=False)).deleted
        finally:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()

    assert asyncio.run(collect()) == 1
    world.check()
