"""Type checkers accept the typed examples and reject each wrong use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip(), done.stderr
    return done.stdout


def mypy(name: str, folder: Path) -> dict[int, list[str]]:
    """The errors that mypy --strict reports in a file, by line."""
    output = run(
        "mypy",
        "--strict",
        "--follow-imports",
        "silent",
        "--hide-error-context",
        "--cache-dir",
        str(folder),
        str(HERE / name),
    )
    errors: dict[int, list[str]] = {}
    for line in output.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match:
            assert match[1].endswith(name), line
            errors.setdefault(int(match[2]), []).append(match[3])
    return errors


def pyright(name: str, folder: Path) -> dict[int, list[str]]:
    """The errors that pyright reports in a file, by line."""
    shutil.copy(HERE / name, folder)  # the project's own settings leave wrong.py out
    settings = {"include": [name], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(project)))
    assert report["summary"]["filesAnalyzed"] == 1
    errors: dict[int, list[str]] = {}
    for told in report["generalDiagnostics"]:
        if told["severity"] == "error":
            errors.setdefault(told["range"]["start"]["line"] + 1, []).append(told["message"])
    return errors


Checker = Callable[[str, Path], dict[int, list[str]]]


@pytest.fixture(params=[mypy, pyright], ids=["mypy", "pyright"])
def checker(request: pytest.FixtureRequest) -> Checker:
    chosen: Checker = request.param
    return chosen


def test_the_typed_examples_are_accepted(checker: Checker, tmp_path: Path) -> None:
    assert checker("examples.py", tmp_path) == {}


def test_every_wrong_use_is_rejected_and_nothing_else(checker: Checker, tmp_path: Path) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    errors = checker("wrong.py", tmp_path)
    assert len(marked) == 30
    assert {number: lines[number - 1] for number in marked - errors.keys()} == {}, "accepted though wrong"
    assert {number: messages for number, messages in errors.items() if number not in marked} == {}, (
        "rejected though right"
    )


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "granite_storage" / "py.typed").is_file()
