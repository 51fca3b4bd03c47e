"""Running the benchmarks on another SQLAlchemy, in an environment that is thrown away."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["python_with"]

_ROOT = Path(__file__).parent.parent


@contextmanager
def python_with(sqlalchemy: str) -> Iterator[str]:
    """The Python of a fresh environment with the newest SQLAlchemy of a series.

    :param sqlalchemy: ``"2.0"``, ``"2.1"``, or a whole version.
    """
    wanted = f"SQLAlchemy=={sqlalchemy}" + (".*" if sqlalchemy.count(".") == 1 else "")
    with TemporaryDirectory(prefix="granite-bench-venv-") as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        print(f"installing {wanted} into {folder} ...", file=sys.stderr)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, wanted, *_requirements()], check=True)
        yield python


def _requirements() -> Sequence[str]:
    """What the library and its benchmarks need; the library itself is imported from this folder."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["bench"]]
    return [one for one in needed if not re.match(r"(?i)(granite-storage|sqlalchemy)\b(?!-)", one)]
