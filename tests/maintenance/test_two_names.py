"""A store that the manager knows by two names, as after a backend was renamed, is one store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
)
from granite_storage.gc import StorageGarbageCollector
from granite_storage.locations import new_location
from granite_storage.orm.outbox import outbox_of
from granite_storage.verify import FindingKind, StorageVerifier
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

RENAMED = {
    "documents": StoragePolicy("documents", "disk", key_prefix="docs"),
    "covers": StoragePolicy("covers", "disk"),
}


@pytest.fixture
def renamed(world: World) -> Iterator[World]:
    """A report was stored while the backend was called ``memory``; it is ``disk`` now, and both names lead there."""
    with world.session() as session:
        session.add(world.Document(id=1, report=b"report"))
        session.commit()
    with world.engine.begin() as connection:  # 25 hours ago
        (location,) = world.objects()
        old = put_old(world.backend, 25 * HOUR, content=b"report")
        del world.backend._objects[location]
        connection.execute(
            text(f"UPDATE document SET report = {_replaced(world)} WHERE id = 1"), {"old": location, "new": old}
        )
        connection.execute(text("DELETE FROM granite_storage_outbox"))
    with world.manager.override({"memory": world.backend, "disk": world.backend}, RENAMED):
        yield world


def _replaced(world: World) -> str:
    return (
        "REPLACE(report::text, :old, :new)::jsonb"
        if world.engine.dialect.name == "postgresql"
        else "REPLACE(report, :old, :new)"
    )


def test_a_collection_keeps_what_rows_name_by_the_other_name(renamed: World) -> None:
    report = StorageGarbageCollector(renamed.manager, engine=renamed.engine).collect(dry_run=False, force=True)
    assert (report.referenced, report.orphaned, report.deleted) == (1, 0, 0)
    renamed.check()


def test_a_sweep_keeps_it_too(renamed: World) -> None:
    report = renamed.manager.sweep(renamed.engine, force=True)
    assert (report.scanned, report.orphans) == (1, 0)
    renamed.check()


def test_an_outbox_row_by_the_one_name_deletes_nothing_that_a_row_names_by_the_other(renamed: World) -> None:
    """As a trigger writes it, when SQL puts the new name into the rows."""
    (location,) = renamed.objects()
    with renamed.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO granite_storage_outbox (backend, location, storage_key) VALUES ('disk', :l, 'documents')"
            ),
            {"l": location},
        )
    assert renamed.manager.sweep(renamed.engine).named == 1
    renamed.check()


def test_it_is_verified_once(renamed: World) -> None:
    verifier = StorageVerifier(renamed.manager, engine=renamed.engine)
    report = verifier.verify(repair=True, force=True)
    assert (report.rows, report.objects, report.found) == (1, 1, 0)
    (location,) = renamed.objects()
    put_old(renamed.backend, 25 * HOUR)
    del renamed.backend._objects[location]
    assert sorted(one.kind for one in verifier.verify().findings) == [FindingKind.MISSING, FindingKind.ORPHAN]


@pytest.mark.parametrize("run", ["sweep", "collection"])
def test_what_unfinished_uploads_left_there_is_counted_once(world: World, tmp_path: Path, run: str) -> None:
    backends = {name: LocalStorageBackend(tmp_path / "store", fsync=False) for name in ("memory", "disk")}
    policies = {**world.manager.policies, "covers": StoragePolicy("covers", "disk")}

    def left(*, dry_run: bool) -> int:
        if run == "sweep":
            return world.manager.sweep(world.engine, dry_run=dry_run).leftovers
        return StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=dry_run).leftovers

    with world.manager.override(backends, policies):
        world.add(report=b"kept")
        cut_off = tmp_path / "store/.incoming/cut-off"
        cut_off.write_bytes(b"a part")
        os.utime(cut_off, (0, 0))
        for prefix in ("docs", "covers"):  # a policy's by each name
            (tmp_path / "store" / prefix / "2020/01/31").mkdir(parents=True)
        assert (left(dry_run=True), left(dry_run=False), left(dry_run=True)) == (7, 7, 0)
        assert not cut_off.exists() and not list((tmp_path / "store").glob("*/2020"))


def test_two_backends_on_one_folder_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "files")
    backends = {"disk": LocalStorageBackend(tmp_path / "files"), "local": LocalStorageBackend(tmp_path / "link")}
    manager = StorageManager(backends, {"documents": StoragePolicy("documents", "local")})
    ref = manager.store("documents", b"kept").ref.replace(backend="disk")
    assert manager.identity(ref) == manager.identity(ref.replace(backend="local"))
    assert manager.get(ref) == b"kept"


# A store inside of another


@pytest.fixture
def nested(world: World, tmp_path: Path) -> Iterator[World]:
    """The prefix's outer folder became the backend's own; old refs say the outer backend."""
    backends = {"prod": LocalStorageBackend(tmp_path / "production"), "disk": LocalStorageBackend(tmp_path)}
    policies = {name: StoragePolicy(name, "prod", key_prefix=name) for name in ("documents", "covers")}
    with world.manager.override(backends, policies):
        world.add(report=b"new")
        yield world


def _put_old(root: Path, outer: str) -> str:
    """A file that was stored 25 hours ago; gives its location."""
    then = datetime.now(UTC) - 25 * HOUR
    location = new_location(outer, ".bin", milliseconds=int(then.timestamp() * 1000))
    (root / location).parent.mkdir(parents=True, exist_ok=True)
    (root / location).write_bytes(b"old")
    os.utime(root / location, (then.timestamp(), then.timestamp()))
    return location


def _clean_up(world: World) -> None:
    StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=False, force=True)
    StorageVerifier(world.manager, engine=world.engine).verify(repair=True, force=True)
    world.manager.sweep(world.engine, force=True)


def test_what_is_named_through_the_outer_store_is_nobody_elses(nested: World, tmp_path: Path) -> None:
    named, orphan = (_put_old(tmp_path, "production/documents") for _ in range(2))
    with nested.engine.begin() as connection:
        ref = StoredObjectRef("documents", "disk", named, 3, "")
        connection.execute(insert(nested.Document.__table__), {"report": ref})
    verifier = StorageVerifier(nested.manager, engine=nested.engine)
    assert {kind: count for kind, count in verifier.verify().counts.items() if count} == {FindingKind.ORPHAN: 1}
    _clean_up(nested)
    assert (tmp_path / named).exists() and not (tmp_path / orphan).exists()


def test_what_is_named_through_the_inner_store_is_nobody_elses(nested: World, tmp_path: Path) -> None:
    policies = {**nested.manager.policies, "covers": StoragePolicy("covers", "disk", key_prefix="production/covers")}
    named, orphan = (_put_old(tmp_path, "production/covers") for _ in range(2))
    with nested.engine.begin() as connection:
        ref = StoredObjectRef("covers", "prod", named.removeprefix("production/"), 3, "")
        connection.execute(insert(nested.Document.__table__), {"cover": ref})
    with nested.manager.override(policies=policies):
        _clean_up(nested)
    assert (tmp_path / named).exists() and not (tmp_path / orphan).exists()


def test_what_one_name_frees_is_kept_for_the_other(nested: World, tmp_path: Path) -> None:
    named = _put_old(tmp_path, "production/documents")
    outer = StoredObjectRef("documents", "disk", named, 3, "")
    inner = StoredObjectRef("documents", "prod", named.removeprefix("production/"), 3, "")
    with nested.engine.begin() as connection:
        connection.execute(
            insert(nested.Document.__table__), [{"id": 70, "report": outer}, {"id": 71, "report": inner}]
        )
    for left, key in enumerate((70, 71)):
        with nested.session() as session:
            session.delete(session.get_one(nested.Document, key))
            session.commit()
        assert (tmp_path / named).exists() == (left == 0)


def test_a_declared_reference_through_the_other_store_keeps_it(nested: World, tmp_path: Path) -> None:
    named = _put_old(tmp_path, "production/documents")
    nested.manager.add_references(lambda: [StoredObjectRef("documents", "disk", named, 3, "")])
    _clean_up(nested)
    assert (tmp_path / named).exists()


def test_what_waits_at_one_store_is_an_orphan_at_another(world: World) -> None:
    """Of the same location; and at the same store by its other name it is none."""
    location = put_old(world.backend, 25 * HOUR)
    other = MemoryStorageBackend()
    other._objects[location] = world.backend._objects[location]
    with world.manager.override({"memory": world.backend, "other": other, "same": world.backend}):
        world.add(report=b"kept")
        with world.engine.begin() as connection:
            outbox = outbox_of(world.Base.metadata)
            assert outbox is not None
            later = datetime.now(UTC) + 30 * 24 * HOUR
            row = {"backend": "same", "location": location, "storage_key": "documents", "not_before": later}
            connection.execute(insert(outbox), {**row, "size": 3, "source": ""})
        collector = StorageGarbageCollector(world.manager, engine=world.engine)
        assert (collector.collect().awaiting, collector.collect().orphaned) == (1, 0)
        elsewhere = {**world.manager.policies, "documents": StoragePolicy("documents", "other", key_prefix="docs")}
        with world.manager.override(policies=elsewhere):
            assert (collector.collect().awaiting, collector.collect().orphaned) == (0, 1)


def test_what_is_named_at_one_store_is_an_orphan_at_another(memory_engine: Engine) -> None:
    """Of the same location, whether the names come from an index, from a column without one, or from a declaration."""
    for named_by in ("index", "column", "declared"):

        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents", location_index=named_by == "index")

        here, there = MemoryStorageBackend(), MemoryStorageBackend()
        policies = {
            "documents": StoragePolicy("documents", "here", key_prefix="docs"),
            "archive": StoragePolicy("archive", "there", key_prefix="docs"),
        }
        manager = StorageManager({"here": here, "there": there}, policies)
        manager.attach(Base, engine=memory_engine)
        Base.metadata.create_all(memory_engine)
        location = put_old(here, 25 * HOUR)
        there._objects[location] = here._objects[location]
        ref = StoredObjectRef("documents", "here", location, 3, "")
        if named_by == "declared":
            manager.add_references(lambda ref=ref: [ref])
        else:
            with memory_engine.begin() as connection:
                connection.execute(insert(Document.__table__), {"report": ref})
        report = StorageGarbageCollector(manager).collect()
        assert (report.referenced, report.orphaned) == (1, 1), named_by
        verified = StorageVerifier(manager).verify()
        assert [(one.kind, one.backend) for one in verified.findings] == [(FindingKind.ORPHAN, "there")], named_by
        Base.metadata.drop_all(memory_engine)
