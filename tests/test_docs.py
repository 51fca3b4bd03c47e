"""The examples of README and docs run as they are printed.

A page's ``python`` blocks are one program, run from top to bottom in an empty folder with SQLite. A block after the
comment ``<!-- not run: why -->`` is left out. A page with the comment ``<!-- after: quickstart.md -->`` goes on where
that page ended.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
AFTER = re.compile(r"^<!-- after: (\S+) -->$", re.MULTILINE)


def program(page: Path) -> str:
    """A page's blocks, each line at the line it has in the page."""
    lines = []
    running = skipped = False
    for line in page.read_text().splitlines():
        fence = line.startswith("```")
        if line.startswith("<!-- not run"):
            skipped = True
        elif fence and not running and line == "```python" and not skipped:
            running = True
            lines.append("")
            continue
        elif fence:
            running = False
            skipped = skipped and line != "```"
        lines.append(line if running else "")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", [page for page in PAGES if program(page).strip()], ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    before = [page.parent / name for name in AFTER.findall(page.read_text())]
    scripts = []
    for part in (*before, page):
        script = tmp_path / part.with_suffix(".py").name
        script.write_text(program(part).replace("file:///var/uploads", (tmp_path / "uploads").as_uri()))
        scripts.append(script)
    for name in ("report.pdf", "v2.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.7\n" + name.encode())
    runner = "from pathlib import Path\n" + "".join(
        f"exec(compile(Path({str(script)!r}).read_text(), {str(script)!r}, 'exec'))\n" for script in scripts
    )
    played = subprocess.run(
        [sys.executable, "-W", "error", "-c", runner],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stderr


def test_every_page_of_the_guide_is_in_the_index() -> None:
    listed = (ROOT / "docs" / "index.md").read_text().splitlines()
    assert [page.stem for page in PAGES[1:] if page.stem != "index" and page.stem not in listed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_merge_was_left_unfinished_in_a_page(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert [line for line in lines if line.startswith(("<<<<<<< ", ">>>>>>> ")) or line == "======="] == []
