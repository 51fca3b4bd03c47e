"""What is around a command: applications that print, end or fail, terminals that cannot show all, secrets in URLs."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from granite_storage import StoragePolicy
from granite_storage.cli.running import run
from granite_storage.gc import StorageGarbageCollector
from tests.cli.conftest import Command
from tests.maintenance.ages import put_old
from tests.orm.worlds import World


def _ending() -> Any:
    sys.exit("DATABASE_URL is not set")


def _failing() -> Any:
    raise ValueError("no settings")


@pytest.mark.parametrize("option", ["--app", "--engine"])
@pytest.mark.parametrize(
    ("make", "said"), [(_ending, "DATABASE_URL is not set"), (_failing, "ValueError: no settings")]
)
def test_an_application_that_ends_or_fails_is_a_failure_in_one_line(
    application: ModuleType, capsys: Any, option: str, make: Any, said: str
) -> None:
    application.make = make
    app = ["--app", "shop_storage:make"] if option == "--app" else ["--app", "shop_storage:manager"]
    status = run([*app, "--engine", f"shop_storage:{'engine' if option == '--app' else 'make'}", "gc"])
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and said in err and option in err and "Traceback" not in err


def test_a_module_that_ends_the_program_is_a_failure(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "shop_ending.py").write_text("import sys\nsys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["--app", "shop_ending:manager", "gc"]) == 2
    assert "importing it failed: SystemExit" in capsys.readouterr().err


def test_an_application_that_ends_during_the_work_is_a_failure(command: Command, world: World) -> None:
    def leave(event: Any) -> None:
        raise SystemExit(0)

    world.manager.on_event(leave)
    status, _, err = command("gc", "--delete")
    assert status == 2 and "the application ended the program" in err


def test_what_an_application_prints_or_logs_is_not_in_the_output(
    application: ModuleType, world: World, capsys: Any
) -> None:
    import logging

    log = logging.getLogger("shop")
    log.propagate = False

    def make() -> Any:
        sys.stdout.write("loading settings\n")
        log.addHandler(logging.StreamHandler(sys.stdout))
        world.manager.on_event(lambda event: log.warning("event"))
        return world.manager

    application.make = make
    try:
        assert run(["--app", "shop_storage:make", "--engine", "shop_storage:engine", "sweep", "--json"]) == 0
    finally:
        log.handlers.clear()
        world.manager.events.hooks.clear()
    out, err = capsys.readouterr()
    assert json.loads(out)["scanned"] == 0
    assert "loading settings" in err and "event" in err


def test_an_engine_that_is_none_is_one_line(command: Command, application: ModuleType) -> None:
    application.engine = "sqlite:///app.db"
    status, _, err = command("gc")
    assert status == 2 and "an engine of SQLAlchemy's is needed" in err and "--database" in err


@pytest.mark.parametrize("url", ["postgresql+psycopg://shop:s3cret@host:s3cret/db", "s3cret"])
def test_a_url_that_is_none_is_not_shown(command: Command, url: str) -> None:
    status, out, err = command("--database", url, "gc", engine=False)
    assert status == 2 and "percent-encoded" in err and "s3cret" not in out + err


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=" ".join)
def test_config_masks_what_is_secret_in_a_url_of_a_database(
    command: Command, application: ModuleType, world: World, arguments: tuple[str, ...]
) -> None:
    query = "password=s3cret&sslpassword=s3cret&application_name=shop&PWD=s3cret&passfile=s3cret&api_key=s3cret"
    for url, shown in (
        (f"postgresql+psycopg://u@h/db?{query}", "u@h/db?"),
        ("postgresql+psycopg://u:pa@s3cret/word@db:5432/x", "u:***@***/***"),
        ("postgresql+psycopg://u:p@h/db?host=a&host=b&options=token%3Ds3cret", "u:***@h/db?host=a&host=b&options=***"),
    ):
        (metadata,) = world.manager.attached
        world.manager.attached[metadata] = create_engine(url)
        status, out, _ = command("config", *arguments, engine=False)
        assert status == 0 and shown in out and "s3cret" not in out and "word@" not in out
        assert "application_name=shop" in out or query not in url


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:pa@ss/s3cret@db:5432/x", "sqlite:///s3cret@db"])
def test_a_password_that_was_not_encoded_is_not_shown_as_the_name_of_a_database(
    command: Command, application: ModuleType, world: World, url: str
) -> None:
    (metadata,) = world.manager.attached
    world.manager.attached[metadata] = world.engine
    status, out, err = command("--database", url, "gc", engine=False)
    assert status == 2 and "the engine of database *** would not be asked" in err and "s3cret" not in out + err


def test_a_host_that_is_the_rest_of_a_password_is_not_asked(command: Command) -> None:
    status, out, err = command("--database", "postgresql+psycopg://u:pa@s3cret@db/x", "gc", engine=False)
    assert status == 2 and "percent-encoded" in err and "s3cret" not in out + err


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql+pymysql://root@127.0.0.1:3306/x?passwdd=s3cret", "pymysql does not take what the URL says"),
        ("postgresql+asyncpg://u@127.0.0.1/x?passwdd=s3cret", "asyncpg does not take what the URL says"),
    ],
)
@pytest.mark.parametrize("arguments", [("gc",), ("verify",), ("stats",), ("sweep",)], ids=" ".join)
def test_an_option_of_a_url_that_the_driver_does_not_know_is_one_line(
    command: Command, url: str, named: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = command("--database", url, *arguments, engine=False)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert named in err and ": an option, or the value of one, of passwdd" in err and "s3cret" not in err


def test_a_part_of_a_password_that_looks_like_an_option_is_not_named(command: Command) -> None:
    url = "mysql+pymysql://root:pa@127.0.0.1?s3cret=word@db:3306/x"
    status, _, err = command("--database", url, "gc", engine=False)
    assert status == 2 and "does not take what the URL says" in err and "s3cret" not in err


@pytest.mark.parametrize("grace", ["99999999999999999d", "36501d", "5y", "-1d", "d"])
def test_a_time_that_is_none_or_too_long_is_told(command: Command, grace: str) -> None:
    status, _, err = command("gc", f"--grace={grace}")
    assert status == 2 and "--grace" in err and ("100 years" in err or "is no time such as" in err)


def test_an_error_of_a_database_that_says_nothing_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT secret", {}, TimeoutError())

    monkeypatch.setattr(StorageGarbageCollector, "collect", fail)
    status, _, err = command("gc")
    assert status == 2 and "the database says: TimeoutError" in err and "secret" not in err


@pytest.mark.parametrize("arguments", [["ls", "covers"], ["ls", "covers", "--json"], ["config"], ["config", "--json"]])
def test_a_terminal_that_cannot_show_a_name_gets_it_escaped(
    application: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    written = io.BytesIO()
    policies = {**world.manager.policies, "covers": StoragePolicy("covers", "memory", key_prefix="Umschläge")}
    with world.manager.override({"memory": world.backend}, policies):
        put_old(world.backend, timedelta(days=1), prefix="Umschläge")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, "iso8859-5", write_through=True))
            assert run(["--app", "shop_storage:manager", *arguments]) == 0
            text = written.getvalue().decode("iso8859-5")
    assert "Umschl" in text
    if "--json" in arguments:
        assert "Umschläge" in json.dumps([json.loads(line) for line in text.splitlines()], ensure_ascii=False)
