"""Importing the library in a fresh interpreter: seconds of the import statement itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Fact, Result
from benchmarks.runner import measure

__all__ = ["run"]


def run(settings: Settings) -> Iterator[Result]:
    """Modules are compiled already: the round that warms up has done that."""
    contenders = (
        Contender("granite-storage", importing, ("granite_storage",)),
        Contender("sqlalchemy.orm", importing, ("sqlalchemy.orm",), goal=1.3),
        Contender("advanced-alchemy", importing, ("advanced_alchemy.types.file_object",), peer=True),
        Contender("sqlalchemy-file", importing, ("sqlalchemy_file",), peer=True),
    )
    rounds = settings.rounds if settings.quick else 5 * settings.rounds
    yield measure(Case("import", contenders, 1, "ms", 1e3), rounds, _facts())


def _facts() -> Iterator[Fact]:
    code = "import sys, granite_storage; print(*sorted({'boto3', 'botocore', 'alembic'} & set(sys.modules)))"
    loaded = _python(code).strip()
    text = f"import granite_storage loads {loaded or 'neither boto3 nor alembic'}"
    yield Fact(text, "not boto3", "boto" not in loaded)


@contextmanager
def importing(module: str) -> Iterator[Round]:
    """A fresh interpreter a round, which times its own import."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    yield Round(lambda: float(_python(code)))


def _python(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout
