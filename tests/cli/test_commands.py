"""The command line, in the process of the test; tests/cli/test_program.py runs it as a program."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from granite_storage.cli.running import run
from granite_storage.exceptions import StorageError
from granite_storage.maintenance.places import database_ids, sites_of
from tests.cli.conftest import Command
from tests.databases import Database
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

DAY = timedelta(days=1)


def test_gc_counts_and_with_delete_deletes(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    status, out, err = command("gc")
    assert (status, err) == (0, "")
    assert out == "scanned 2 objects: 1 referenced, 1 orphaned (3 bytes); would delete 1\n"
    assert len(world.objects()) == 2
    status, out, _ = command("gc", "documents", "--delete", "--json")
    assert status == 0 and json.loads(out)["deleted"] == 1 and json.loads(out)["complete"] is True
    world.check()


def test_gc_works_with_several_threads(command: Command, world: World) -> None:
    world.add(report=b"kept")
    for days in (2, 30, 400):
        put_old(world.backend, days * DAY)
    assert "deleted 3" in command("gc", "--delete", "--jobs", "3")[1]
    world.check()


def test_gc_says_what_it_refused_and_how_to_go_on(command: Command, world: World) -> None:
    put_old(world.backend, 30 * DAY)
    status, out, err = command("gc", "--delete")
    assert (
        status == 1
        and out == "scanned 1 object: 0 referenced, 1 orphaned (3 bytes); deleted 0\n"
        and "then say so: the same command with --force" in err
        and "collect(" not in err
    )
    assert command("gc", "--delete", "--force")[0] == 0
    assert world.objects() == set()


def test_gc_as_a_dry_run_tells_by_its_status_that_the_brake_would_refuse(command: Command, world: World) -> None:
    put_old(world.backend, 30 * DAY)
    status, out, err = command("gc")
    assert status == 1 and "1 orphaned" in out and "the brake" in err
    assert command("gc", "--force")[0] == 0 and len(world.objects()) == 1


def test_gc_names_unreadable_rows(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        statement = f"INSERT INTO document (id, scan) VALUES (7, (:said){kind})"
        connection.execute(text(statement), {"said": '{"legacy_inline_text": "x"}'})
    status, _, err = command("gc", "--delete")
    assert status == 1 and "unreadable: document.scan of row (7,)" in err


def test_gc_takes_a_grace_period(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 3 * HOUR)
    assert "1 younger" in command("gc")[1]
    assert "would delete 1" in command("gc", "--grace", "2h")[1]
    status, _, err = command("gc", "--grace", "soon")
    assert status == 2 and "'soon' is no time such as 90s, 15m, 24h or 7d" in err
    status, _, err = command("gc", "--delete", "--dry-run")
    assert status == 2 and "either" in err


def test_sweep_sweeps(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 25 * HOUR)
    status, out, _ = command("sweep", "--dry-run")
    assert status == 0 and "1 left-over upload would be deleted" in out
    assert len(world.objects()) == 2
    status, out, _ = command("sweep", "--json")
    assert status == 0 and json.loads(out)["orphans"] == 1
    world.check()


def test_sweep_takes_an_instant(command: Command, world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 20 * DAY)
    assert "0 left-over uploads" in command("sweep")[1]
    assert "1 left-over upload deleted" in command("sweep", "--since", "2020-01-01")[1]


def test_sweep_takes_a_grace_period_and_the_explicit_word(command: Command, world: World) -> None:
    put_old(world.backend, 3 * HOUR)
    assert "0 left-over uploads" in command("sweep")[1]
    status, _, err = command("sweep", "--grace", "2h")
    assert status == 1 and "nothing names any object" in err and len(world.objects()) == 1
    assert command("sweep", "--grace", "2h", "--dry-run")[0] == 1
    status, out, _ = command("sweep", "--grace", "2h", "--force")
    assert status == 0 and "1 left-over upload deleted" in out


def test_ls_lists_a_policy_in_order(command: Command, world: World) -> None:
    locations = sorted(put_old(world.backend, days * DAY) for days in (1, 2, 3))
    put_old(world.backend, DAY, prefix="docs-old")
    assert command("ls", "documents", engine=False) == (0, "".join(f"{one}\n" for one in locations), "")
    assert command("ls", "documents", "-n", "1", "--start-after", locations[0])[1] == f"{locations[1]}\n"
    day = locations[2].split("/", 1)[1].rsplit("/", 1)[0]
    assert command("ls", f"documents/{day}")[1] == f"{locations[2]}\n"
    assert command("ls", "documents", "-l")[1].splitlines()[0].split()[:2] == ["3", "B"]
    first = json.loads(command("ls", "documents", "--json", "-n", "1")[1])
    assert (first["location"], first["size"]) == (locations[0], 3)
    status, _, err = command("ls", "reports")
    assert status == 2 and err == "Error: Unknown storage policy: 'reports'; the manager has 'documents', 'covers'\n"


def test_cat_writes_the_bytes(
    application: ModuleType, world: World, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    location = put_old(world.backend, DAY, content=b"\x00\xffbytes")
    target = tmp_path / "x"
    assert run(["--app", "shop_storage:manager", "cat", location, "-o", str(target)]) == 0
    assert target.read_bytes() == b"\x00\xffbytes"
    assert run(["--app", "shop_storage:manager", "cat", "elsewhere/x"]) == 2
    assert b"--policy NAME" in capfdbinary.readouterr().err
    assert run(["--app", "shop_storage:manager", "cat", "docs/missing", "-o", str(tmp_path / "y")]) == 2
    assert b"Error: " in capfdbinary.readouterr().err and not (tmp_path / "y").exists()


def test_config_shows_what_is_configured_and_no_secret(command: Command, world: World) -> None:
    url = "s3://bucket/prefix?region=eu-west-1&access_key=AKIA1&secret_key=hidden1"
    with world.manager.override({"memory": world.backend, "s3": url}, world.manager.policies):
        status, out, _ = command("config")
        assert status == 0
        for said in (
            "Backends",
            "Policies",
            "File fields",
            "document.report",
            "max_size=1000",
            "granite_storage_outbox",
        ):
            assert said in out
        assert "hidden1" not in out
        told = json.loads(command("config", "--json")[1])
        assert told["policies"]["documents"] == {"backend_key": "memory", "prefix": "docs"}
        assert told["fields"][0]["registry"] == "granite_storage_fields"
        assert "hidden1" not in json.dumps(told)


def test_adopt_asks_first_and_then_takes_the_prefixes_over(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"kept")
    mark = world.backend.put_bytes(key="docs/.granite-storage/databases/gone", content=b"{}")
    assert "mark of 1 other database" in command("sweep")[2]
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, err = command("adopt")
    assert status == 1 and world.backend.exists(mark) and "Mark memory:covers, memory:docs as this database's" in err
    status, out, _ = command("adopt", "--yes")
    assert (status, out) == (0, "adopted: memory:covers, memory:docs\n")
    assert not world.backend.exists(mark) and command("sweep")[0] == 0
    assert json.loads(command("adopt", "--yes", "--new-database-id", "--json")[1]) == {
        "adopted": ["memory:covers", "memory:docs"]
    }


def test_adopt_gives_a_copied_database_another_id_if_told_to(command: Command, world: World) -> None:
    def ids() -> list[str]:
        return [*database_ids(sites_of(world.manager, world.engine)).values()]

    before = ids()
    assert command("adopt", "--yes")[0] == 0 and ids() == before
    assert command("adopt", "--yes", "--new-database-id")[0] == 0 and ids() != before


def test_adopt_as_a_dry_run_says_what_it_would_take_and_asks_nothing(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = world.backend.put_bytes(key="docs/.granite-storage/databases/gone", content=b"{}")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = world.objects()
    said = "would mark memory:covers, memory:docs as this database's, of no owner, and of nobody else\n"
    assert command("adopt", "--dry-run") == (0, said, "")
    assert command("adopt", "--dry-run", "--yes", "--new-database-id")[:2] == (0, said)
    assert json.loads(command("adopt", "--dry-run", "--json")[1]) == {
        "dry_run": True,
        "would_adopt": ["memory:covers", "memory:docs"],
        "owner": None,
    }
    assert world.backend.exists(mark) and world.objects() == before


class _Interrupted(io.StringIO):
    """Somebody presses Ctrl-C."""

    def readline(self, size: int | None = -1, /) -> str:
        raise KeyboardInterrupt


def test_adopt_changes_nothing_when_nobody_answers(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = world.backend.put_bytes(key="docs/.granite-storage/databases/gone", content=b"{}")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, out, err = command("adopt")
    assert (status, out.strip()) == (2, "") and "done stays done" not in err
    assert err.splitlines()[-1] == "Error: nothing was changed, for nobody answered the question; give --yes"
    monkeypatch.setattr("sys.stdin", _Interrupted())
    assert command("adopt")[0] == 130
    assert world.backend.exists(mark)


def test_a_dry_run_that_finds_orphans_is_no_failure_and_verify_prints_a_line_for_each(
    command: Command, world: World
) -> None:
    world.add(report=b"kept")
    for _ in range(2):
        put_old(world.backend, 30 * DAY)
    status, out, _ = command("gc", "--json")
    assert status == 0 and len(out.splitlines()) == 1 and json.loads(out)["orphaned"] == 2
    status, out, err = command("verify", "--json")
    *findings, report = map(json.loads, out.splitlines())
    assert (status, err) == (1, "") and [one["kind"] for one in findings] == ["orphan"] * 2 and report["findings"] == 2
    status, out, _ = command("ls", "documents", "--json")
    assert status == 0 and {json.loads(line)["location"] for line in out.splitlines()} == world.objects()


# Finding the application


def test_the_application_may_be_made_by_a_callable(application: ModuleType, capsys: Any) -> None:
    assert run(["--app", "shop_storage:make_manager", "config"]) == 0


def test_the_environment_or_pyproject_toml_may_name_it(
    application: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("GRANITE_STORAGE_APP", "shop_storage:manager")
    assert run(["ls", "documents"]) == 0
    monkeypatch.delenv("GRANITE_STORAGE_APP")
    capsys.readouterr()
    assert run(["ls", "documents"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: no application: give --app") and len(err.splitlines()) == 1
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.granite-storage]\napp = "shop_storage:manager"\nengine = "shop_storage:engine"\n')
    world.add(report=b"kept")
    assert run(["gc"]) == 0 and "1 referenced" in capsys.readouterr().out
    project.write_text('[tool.granite-storage]\nmanager = "shop_storage:manager"\n')
    assert run(["gc"]) == 2
    assert "takes app and engine" in capsys.readouterr().err
    project.write_text("[tool")
    assert run(["gc"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    for wrong in ("tool = 3", "[tool]\ngranite-storage = 3", "[tool]\ngranite-storage = ['shop_storage:manager']"):
        project.write_text(wrong)
        assert run(["gc"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"Error: {project}: tool") and "is no table" in err and len(err.splitlines()) == 1


def test_the_folder_of_pyproject_toml_is_where_it_is_imported_from(
    application: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "shop_above.py").write_text("from shop_storage import manager")
    (tmp_path / "pyproject.toml").write_text('[tool.granite-storage]\napp = "shop_above:manager"\n')
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run(["ls", "documents"]) == 0


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("shop_storage", "write it as package.module:name"),
        ("nowhere.at_all:manager", "there is no module 'nowhere'"),
        ("shop_storage:managre", "shop_storage has no 'managre'"),
        ("shop_storage:engine", "a StorageManager is needed, not"),
        ("shop_broken:manager", "importing it failed: RuntimeError: no settings"),
        ("shop_missing:manager", "importing it failed: No module named 'not_installed'"),
    ],
)
def test_a_wrong_application_is_one_line(
    application: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, app: str, said: str
) -> None:
    (tmp_path / "shop_broken.py").write_text("raise RuntimeError('no settings')")
    (tmp_path / "shop_missing.py").write_text("import not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["--app", app, "ls", "documents"]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_without_a_database_it_says_how_to_give_one(command: Command, world: World, capsys: Any) -> None:
    for arguments in (["gc"], ["import", "document", "body", "report", "--policy", "documents", "--kind", "text"]):
        status, _, err = command(*arguments, engine=False)
        assert status == 2 and "no database: give --database URL or --engine MODULE:ENGINE" in err
        assert len(err.splitlines()) == 1
    world.manager.attached.clear()
    status, _, err = command("gc", engine=False)
    assert status == 2 and "must also import them" in err


def test_the_database_may_be_a_url(
    command: Command, world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"kept")
    url = world.engine.url.render_as_string(hide_password=False)
    assert "1 referenced" in command("--database", url, "gc", engine=False)[1]
    monkeypatch.setenv("GRANITE_STORAGE_DATABASE", url)
    assert "1 referenced" in command("gc", engine=False)[1]
    monkeypatch.delenv("GRANITE_STORAGE_DATABASE")
    status, _, err = command("--database", "nosuch://x", "gc", engine=False)
    assert status == 2 and "--database: " in err and "Traceback" not in err
    status, _, err = command("--database", url, "gc")
    assert status == 2 and "either" in err


@pytest.mark.databases("sqlite", "postgresql")
def test_an_asynchronous_engine_is_awaited(
    command: Command, world: World, database: Database, application: ModuleType
) -> None:
    world.add(report=b"kept")
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    url = database.url_through(entry).render_as_string(hide_password=False)
    assert "1 referenced" in command("--database", url, "gc", engine=False)[1]
    application.engine = lambda: create_async_engine(url)
    assert command("sweep")[0] == 0
    assert command("adopt", "--yes")[0] == 0


def test_a_missing_table_is_one_line_that_says_how_to_make_it(command: Command, world: World) -> None:
    world.Base.metadata.drop_all(world.engine)
    status, _, err = command("sweep")
    assert status == 2 and "create_all" in err and "Traceback" not in err


def test_a_database_that_does_not_answer_is_one_line(command: Command) -> None:
    status, _, err = command("--database", "postgresql+psycopg://nobody@127.0.0.1:9/none", "gc", engine=False)
    assert status == 2 and "the database says: " in err and "Traceback" not in err


def test_traceback_shows_where_it_comes_from(command: Command) -> None:
    with pytest.raises(StorageError):
        command("--traceback", "ls", "reports")


# Help


@pytest.mark.parametrize("name", ["gc", "sweep", "verify", "move", "import", "stats", "ls", "cat", "config", "adopt"])
def test_the_help_of_each_command_has_examples_and_needs_no_application(name: str, capsys: Any) -> None:
    assert run([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"granite-storage {name}" in said and "Example" in said


def test_the_help_says_how_the_application_is_found(capsys: Any) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert "[tool.granite-storage]" in said and "GRANITE_STORAGE_APP" in said and "Exit status" in said
    assert run(["--version"]) == 0
    assert run(["nonsense"]) == 2
