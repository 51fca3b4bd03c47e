"""The commands that verify, count, move and import."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from granite_storage import MemoryStorageBackend, StoragePolicy
from granite_storage.backends.memory import _Object
from granite_storage.move import StorageMover
from granite_storage.verify import StorageVerifier
from tests.cli.conftest import Command
from tests.databases import Database
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

DAY = timedelta(days=1)


@pytest.fixture
def parts_done_by(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the threads in which parts of a verification or of a move are done."""
    names: set[str] = set()

    def watch(made: type, method: str) -> None:
        real = getattr(made, method)

        def watched(*args: Any, **kw: Any) -> Any:
            names.add(threading.current_thread().name)
            return real(*args, **kw)

        monkeypatch.setattr(made, method, watched)

    watch(StorageVerifier, "verify_part")
    watch(StorageMover, "move_part")
    return names


def test_verify_tells_clean_found_and_failed(command: Command, world: World) -> None:
    key = world.add(report=b"kept", cover=b"cover")
    assert command("verify") == (0, "verified 2 rows and 2 objects: all is well\n", "")
    orphan = put_old(world.backend, 30 * DAY)
    with world.session() as session:
        gone = session.get_one(world.Document, key).cover
        world.backend.delete(gone.ref)
    status, out, _ = command("verify")
    assert status == 1 and f"orphan: memory:{orphan}" in out and "    --repair hands it to the outbox" in out
    assert f"missing: document.cover ({key},) memory:{gone.location}" in out
    assert "1 missing, 1 orphan" in out.splitlines()[-1]
    *findings, report = map(json.loads, command("verify", "--json")[1].splitlines())
    assert {one["kind"] for one in findings} == {"missing", "orphan"} and report["findings"] == 2
    status, out, err = command("verify", "--repair", "--dry-run")
    assert status == 2 and "either" in err


def test_verify_does_not_call_well_what_nobody_looked_at(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"kept")
    world.backend.put_bytes(key="docs/.granite-storage/databases/gone", content=b"{}")
    status, out, err = command("verify")
    assert status == 2 and "all is well" not in out and ": nothing is wrong with what was looked at" in out
    assert "if those are gone, granite-storage adopt" in err


def test_verify_works_with_several_threads(command: Command, world: World, parts_done_by: set[str]) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    status, out, _ = command("verify", "--jobs", "3")
    assert status == 1 and "1 row and 2 objects: 1 orphan" in out
    assert parts_done_by and all(name.startswith("granite-storage-job") for name in parts_done_by)


def test_verify_repairs_what_is_safe(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    status, out, _ = command("verify", "documents", "--repair")
    assert status == 0 and "1 repaired" in out
    assert command("sweep")[0] == 0
    world.check()


def test_verify_takes_a_grace_period_and_the_explicit_word(command: Command, world: World) -> None:
    put_old(world.backend, 3 * HOUR)
    assert command("verify")[0] == 0
    assert command("verify", "--grace", "2h")[0] == 1
    status, _, err = command("verify", "--grace", "2h", "--repair")
    assert status == 2 and "nothing names any object" in err
    status, out, _ = command("verify", "--grace", "2h", "--repair", "--force")
    assert status == 0 and "1 repaired" in out


def test_verify_reads_everything_if_told_to(command: Command, world: World) -> None:
    key = world.add(report=b"kept")
    with world.session() as session:
        location = session.get_one(world.Document, key).report.location
    world.backend._objects[location] = _Object(b"dama", datetime.now(UTC))
    assert command("verify")[0] == 0
    status, out, _ = command("verify", "--deep")
    assert status == 1 and "checksum: document.report" in out


def test_stats_counts(command: Command, world: World) -> None:
    world.add(report=b"12345", cover=b"123")
    status, out, _ = command("stats")
    assert status == 0 and "document.report" in out and "documents" in out
    told = json.loads(command("stats", "--json")[1])
    assert (told["count"], told["bytes"]) == (2, 8)


def test_move_moves_between_policies(command: Command, world: World) -> None:
    archive = MemoryStorageBackend()
    policies = {**world.manager.policies, "archive": StoragePolicy("archive", "archive", max_size=4)}
    with world.manager.override({"memory": world.backend, "archive": archive}, policies):
        world.add(report=b"1234")
        world.add(report=b"too large")
        status, out, err = command("move", "documents", "--to", "archive", "--dry-run")
        assert status == 1 and "would move 1 file (4 bytes)" in out
        status, out, err = command("move", "documents", "--to", "archive")
        assert status == 1 and "moved 1 file (4 bytes)" in out and "not moved: document.report of row (2,)" in err
        assert world.contents() == [b"too large"]
        status, out, _ = command("move", "documents", "--to", "archive", "--no-limits", "--reread", "--json")
        assert status == 0 and json.loads(out)["moved"] == 1
        assert world.contents() == []
        status, _, err = command("move", "documents", "--to", "nowhere")
        assert status == 2 and "Unknown storage policy: 'nowhere'" in err
        status, _, err = command("move", "documents", "--to", "archive", "--bytes-per-second", "0")
        assert status == 2 and "bytes-per-second" in err


def test_move_works_with_several_threads(
    command: Command, world: World, parts_done_by: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = {**world.manager.policies, "archive": StoragePolicy("archive", "archive")}
    with world.manager.override({"memory": world.backend, "archive": MemoryStorageBackend()}, policies):
        world.add(report=b"1234")
        assert "moved 1 file (4 bytes)" in command("move", "documents", "--to", "archive", "--jobs", "3")[1]
        assert parts_done_by and all(name.startswith("granite-storage-job") for name in parts_done_by)
        given: list[dict[str, Any]] = []
        real = StorageMover.move
        monkeypatch.setattr(StorageMover, "move", lambda *args, **kw: given.append(kw) or real(*args, **kw))
        command("move", "archive", "--to", "documents", "--jobs", "3", "--objects-per-second", "1000")
        assert given[0]["parts"] == 3  # as many as work at once, or the rate would not be reached
        assert (given[0]["objects_per_second"], given[0]["bytes_per_second"]) == (1000, None)
        command("move", "documents", "--to", "archive", "--bytes-per-second", "1e9")
        assert (given[1]["objects_per_second"], given[1]["bytes_per_second"]) == (None, 1e9)


def test_move_says_how_many_more_were_not_moved(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granite_storage.maintenance.move.report.FINDINGS_TOLD", 1)
    for content in (b"1", b"2", b"3"):
        world.add(report=content)
    world.backend._objects.clear()
    status, _, err = command("move", "documents", "--to", "covers")
    assert status == 1 and err.count("not moved: document.report of row") == 1 and "not moved: 2 more" in err


def test_move_takes_only_the_files_of_one_backend(command: Command, world: World) -> None:
    policies = {**world.manager.policies, "archive": StoragePolicy("archive", "archive")}
    with world.manager.override({"memory": world.backend, "archive": MemoryStorageBackend()}, policies):
        world.add(report=b"1234")
        arguments = ("move", "documents", "--to", "archive", "--from-backend")
        assert "moved 0 files" in command(*arguments, "archive")[1]
        assert "moved 1 file (4 bytes)" in command(*arguments, "memory")[1]


def _old_column(world: World, kind: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE document ADD COLUMN body {kind}"))


def test_import_takes_an_old_column_in(command: Command, world: World) -> None:
    _old_column(world, "TEXT")
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, title, body) VALUES (1, 'one', 'first'), (2, 'two', NULL)"))
    arguments = ("import", "document", "body", "cover", "--policy", "covers")
    status, _, err = command(*arguments)
    assert status == 2 and "kind" in err  # of a text nobody can tell
    status, out, _ = command(*arguments, "--kind", "text", "--filename-column", "title")
    assert status == 0 and "converted 1 of 1 rows, 5 bytes" in out
    with world.session() as session:
        assert session.get_one(world.Document, 1).cover.read() == b"first"
        assert session.get_one(world.Document, 1).cover.filename == "one"
    assert json.loads(command(*arguments, "--kind", "text", "--json")[1])["total"] == 0


def test_import_names_the_rows_that_it_cannot_take(command: Command, world: World, tmp_path: Path) -> None:
    _old_column(world, "TEXT")
    (tmp_path / "a.txt").write_text("a")
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, body) VALUES (1, 'a.txt'), (2, 'missing.txt')"))
    arguments = ("import", "document", "body", "report", "--policy", "documents", "--kind", "paths")
    status, _, err = command(*arguments)
    assert status == 2 and "root" in err
    assert "--kind paths needs --root, the folder" in err
    status, out, err = command(*arguments, "--root", str(tmp_path))
    assert (status, out) == (1, "converted 1 of 2 rows, 1 bytes; 1 failed\n")
    assert "id=2" in err and "with --skip-errors" in err and "Traceback" not in err
    status, out, err = command(*arguments, "--root", str(tmp_path), "--json")
    told = json.loads(out)
    assert (status, err, told["total"], told["rows"], told["failed"]) == (1, "", 1, 0, 1)
    assert "id=2" in told["failures"][0] and "cannot be converted" in told["stopped"] and told["complete"] is False
    status, _, err = command(*arguments, "--root", str(tmp_path), "--skip-errors")
    assert status == 1 and "not imported: document (id=2)" in err


def test_import_as_a_dry_run_counts_and_changes_nothing(command: Command, world: World, tmp_path: Path) -> None:
    _old_column(world, "TEXT")
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, body) VALUES (1, 'a'), (2, 'b'), (3, NULL)"))
    arguments = ("import", "document", "body", "cover", "--dry-run", "--policy")
    assert command(*arguments, "covers", "--kind", "text") == (0, "would convert 2 rows\n", "")
    told = json.loads(command(*arguments, "covers", "--kind", "text", "--json")[1])
    assert (told["dry_run"], told["total"], told["rows"], told["complete"]) == (True, 2, 0, True)
    with world.session() as session:
        assert session.get_one(world.Document, 1).cover is None and world.objects() == set()
    for wrong, said in (
        (("covers",), "does not tell what it holds"),
        (("covers", "--kind", "bytes"), "bytes"),
        (("covers", "--kind", "paths"), "--kind paths needs --root"),
        (("documents", "--kind", "text"), "is a file field of policy 'covers'"),
        (("nowhere", "--kind", "text"), "Unknown storage policy"),
    ):
        if wrong[-1] == "bytes" and world.engine.dialect.name == "sqlite":  # which keeps bytes in any column
            continue
        status, out, err = command(*arguments, *wrong)
        assert (status, out) == (2, "") and said in err
    assert "no column" in command("import", "document", "nobody", *arguments[3:], "covers", "--kind", "text")[2]


def test_import_is_done_in_one_database(command: Command, world: World, application: ModuleType) -> None:
    application.engines = [world.engine, create_async_engine("sqlite+aiosqlite://")]
    arguments = ("import", "document", "body", "report", "--policy", "documents", "--kind", "text")
    status, _, err = command("--engine", "shop_storage:engines", *arguments, engine=False)
    assert status == 2 and "one database at a time" in err


@pytest.mark.databases("sqlite", "postgresql")
def test_all_of_them_await_an_asynchronous_engine(command: Command, world: World, database: Database) -> None:
    _old_column(world, "TEXT")
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, body) VALUES (1, 'first')"))
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    url = database.url_through(entry).render_as_string(hide_password=False)
    options = ("--kind", "text", "--policy", "documents")
    arguments = ("--database", url, "import", "document", "body", "report", *options)
    assert command(*arguments, "--dry-run", engine=False)[:2] == (0, "would convert 1 row\n")
    assert command(*arguments, engine=False)[0] == 0
    for others in (("verify",), ("stats",), ("move", "documents", "--to", "covers")):
        assert command("--database", url, *others, engine=False)[0] == 0
    with world.session() as session:
        assert session.get_one(world.Document, 1).report.ref.storage_key == "covers"


@pytest.mark.databases("sqlite", "postgresql")
@pytest.mark.parametrize("arguments", [("gc",), ("verify",), ("move", "documents", "--to", "covers")], ids=" ".join)
def test_threads_need_a_synchronous_engine(
    command: Command, world: World, database: Database, arguments: tuple[str, ...]
) -> None:
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    url = database.url_through(entry).render_as_string(hide_password=False)
    said = (
        "Error: --jobs needs synchronous engines: give --database with a synchronous driver, and attach the models "
        "without an engine\n"
    )
    assert command("--database", url, *arguments, "--jobs", "2", engine=False) == (2, "", said)
