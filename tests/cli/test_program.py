"""The command line as a program of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.databases import ROOT

APPLICATION = '''
import time
from datetime import UTC, datetime
from pathlib import Path

from granite_storage import MemoryStorageBackend, StorageManager, StoragePolicy
from granite_storage.backends.base import ObjectInfo


class Slow(MemoryStorageBackend):
    """Lists for ever, slowly."""

    def iter_objects(self, prefix=None, *, start_after=None):
        if prefix and prefix.endswith("documents"):
            number = 0
            while number < 10 if Path("few").exists() else True:
                number += 1
                if number % 10_000 == 0:
                    Path("listing").touch()
                    time.sleep(0.05)
                yield ObjectInfo(f"documents/{number:020}", 1, datetime.now(UTC))


slow = Slow()
slow.put_bytes(key="documents/x", content=b"few bytes")
manager = StorageManager({"slow": slow}, {"documents": StoragePolicy("documents", "slow")})
manager.add_references(list)
'''

ATTACHED = """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import FileColumn
from slow import manager


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report = FileColumn("documents")


engine = create_engine("sqlite:///app.db")
Base.metadata.create_all(engine)
manager.attach(Base, engine=engine)
"""


# A shell that starts `make test` in the background has it ignore Ctrl-C, and all its children with it.
PROGRAM = """
import runpy, signal

signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("granite_storage", run_name="__main__", alter_sys=True)
"""


@contextmanager
def _start(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "slow.py").write_text(APPLICATION)
    (folder / "shop.py").write_text(ATTACHED)
    command = [sys.executable, "-c", PROGRAM, "--app", "shop:manager", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # what is in a buffer is written once more at the end
    with subprocess.Popen(command, cwd=folder, env=environment, **options) as program:
        try:
            yield program
        finally:
            program.kill()  # if it is still there, it lists for ever


def _wait_for(file: Path) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("command", [["gc"], ["gc", "--jobs", "2"], ["verify", "--jobs", "2"]], ids=" ".join)
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path, command: list[str]) -> None:
    with _start(tmp_path, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        _wait_for(tmp_path / "listing")
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert out == b"" and b"give the same command again" in err and b"Traceback" not in err


def test_progress_is_shown_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with _start(tmp_path, "gc", stdout=subprocess.PIPE, stderr=theirs) as program:
        os.close(theirs)
        shown = b""
        while b"0000 objects" not in shown:
            shown += os.read(ours, 1000)
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=60)
    os.close(ours)
    assert out == b""


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    with _start(tmp_path, "ls", "documents", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.wait(60) == 0
        assert program.stderr.read() == b""


def test_another_command_whose_reader_ends_first_did_not_succeed(tmp_path: Path) -> None:
    with _start(tmp_path, "verify", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        (tmp_path / "few").touch()
        assert program.wait(60) == 141
        assert program.stderr.read() == b""


@pytest.mark.parametrize("full", [("stdout", "stderr"), ("stderr",), ("stdout",)], ids=" and ".join)
@pytest.mark.parametrize("arguments", [["verify", "nope"], ["--app", "nowhere:manager", "verify"], ["config"]])
def test_a_full_disk_does_not_change_how_it_failed(tmp_path: Path, full: tuple[str, ...], arguments: list[str]) -> None:
    if arguments == ["config"] and "stdout" not in full:
        return  # it does not fail
    with open("/dev/full", "wb") as disk:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | dict.fromkeys(full, disk)
        with _start(tmp_path, *arguments, **streams) as program:
            program.communicate(timeout=60)
    assert program.returncode == 2


def test_what_cat_could_not_write_is_a_failure(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb") as disk,
        _start(tmp_path, "cat", "documents/x", stdout=disk, stderr=subprocess.PIPE) as program,
    ):
        _, err = program.communicate(timeout=60)
    assert program.returncode == 2 and b"No space left" in err


def test_without_the_extra_a_message_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')")
    played = subprocess.run(
        [sys.executable, "-m", "granite_storage", "--help"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert played.returncode == 1 and "pip install 'granite-storage[cli]'" in played.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["gc", "--help"]])
def test_help_imports_no_application(tmp_path: Path, arguments: list[str]) -> None:
    with _start(tmp_path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        out, _ = program.communicate(timeout=60)
    assert program.returncode == 0 and b"Usage: granite-storage" in out and not (tmp_path / "app.db").exists()
