"""A store that the manager knows by two names, as after a backend was renamed, is one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from granite_storage import LocalStorageBackend, StorageManager, StoragePolicy
from granite_storage.gc import StorageGarbageCollector
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


def test_two_backends_on_one_folder_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "files")
    backends = {"disk": LocalStorageBackend(tmp_path / "files"), "local": LocalStorageBackend(tmp_path / "link")}
    manager = StorageManager(backends, {"documents": StoragePolicy("documents", "local")})
    ref = manager.store("documents", b"kept").ref.replace(backend="disk")
    assert manager.identity(ref) == manager.identity(ref.replace(backend="local"))
    assert manager.get(ref) == b"kept"
