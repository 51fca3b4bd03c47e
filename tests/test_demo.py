"""``make demo`` does what it says, and notices when the library does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from granite_storage.locations import MARKS
from tests.databases import ROOT

DEMO = ROOT / "examples" / "demo.py"


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_the_demo_plays_every_step_and_says_where_its_files_are(tmp_path: Path) -> None:
    played = run(tmp_path, str(DEMO))
    assert (played.returncode, played.stderr) == (0, "")
    folder = next(tmp_path.iterdir())
    assert str(folder) in played.stdout.splitlines()[0]
    assert "12. Delete" in played.stdout
    assert "checks held" in played.stdout.splitlines()[-1]
    assert "\x1b" not in played.stdout
    left = [path for path in (folder / "files").rglob("*") if path.is_file() and MARKS not in path.parts]
    assert len(left) == 3


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("granite_storage.orm.discarding.delete_objects = lambda manager, refs: []", "after it only the new one is"),
        (
            "granite_storage.StorageManager.copy_object = lambda self, policy, file: file.ref",
            "the copy is an object of its own",
        ),
        ("granite_storage.orm.ledger.Ledger.undo = lambda self: None", "exactly one row"),
        ("granite_storage.StoredFile.open = lambda self: io.BytesIO(bytes(9))", "the head is that of a PDF"),
    ],
)
def test_the_demo_fails_when_a_step_goes_wrong(tmp_path: Path, fault: str, complaint: str) -> None:
    program = f"""
import io, runpy, sys
import alembic  # first, as in every env.py: before 1.18 it finds the extension through the models
import granite_storage, granite_storage.orm.discarding, granite_storage.orm.ledger
{fault}
sys.path.insert(0, {str(DEMO.parent)!r})
runpy.run_path({str(DEMO)!r}, run_name="__main__")
"""
    played = run(tmp_path, "-c", program)
    assert played.returncode == 1
    assert complaint in played.stdout.partition("WRONG")[2]
