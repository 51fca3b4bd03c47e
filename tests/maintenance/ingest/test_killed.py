"""A conversion that is killed at any step loses nothing, leaves nothing that a sweep does not find, and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.databases import ROOT, Database
from tests.maintenance.ingest.archives import Archive
from tests.maintenance.ingest.killed import STEPS

CONTENTS = {number: f"content {number}".encode() * 100 for number in range(1, 8)}


def kill(database: Database, store: Path, way: str, step: str) -> None:
    """Convert in another process, which is killed."""
    url = database.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "tests.maintenance.ingest.killed", url, str(store), way, step],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"step {step!r} was not reached: {done.stderr}"


def sweep(archive: Archive) -> None:
    """With no grace: no upload is under way. Prepared transactions of other tests may be on the server."""
    with patch("granite_storage.maintenance.horizon.oldest_prepared", lambda *args: None):
        archive.manager.sweep(archive.engine, grace=timedelta(0), force=True)


@pytest.fixture
def archive(engine, tmp_path) -> Archive:
    made = Archive(engine, tmp_path / "store")
    made.add(*({"body": one} for one in CONTENTS.values()))
    return made


@pytest.mark.parametrize("step", STEPS)
def test_up(archive, database, tmp_path, step):
    kill(database, tmp_path / "store", "up", step)
    files = archive.files()
    assert {number: one for number, one in files.items() if one is not None}.items() <= CONTENTS.items()
    assert archive.old("body") == CONTENTS
    sweep(archive)
    assert archive.files() == files
    assert archive.objects() == archive.named()
    assert archive.ingest("body").rows == list(files.values()).count(None) > 0
    assert archive.files() == CONTENTS
    assert archive.objects() == archive.named()


@pytest.mark.parametrize("step", [step for step in STEPS if "upload" not in step])
def test_back(archive, database, tmp_path, step):
    archive.ingest("body")
    for number in range(1, 8, 2):
        archive.set(number, body=None)
    kill(database, tmp_path / "store", "back", step)
    files, old = archive.files(), archive.old("body")
    for number, content in CONTENTS.items():
        assert content in (files[number], old[number])
    assert archive.objects() == archive.named() | archive.freed()
    sweep(archive)
    assert archive.files() == files
    assert archive.put_back("body").rows == len(CONTENTS) - list(files.values()).count(None) > 0
    assert archive.old("body") == CONTENTS
    assert set(archive.files().values()) == {None}
    sweep(archive)
    assert archive.objects() == archive.freed() == set()
