"""``python -m benchmarks [NAME ...] [--quick] [--rounds N] [--sqlalchemy 2.0 --sqlalchemy 2.1] [--directory DIR]``

Runs all benchmarks, or those that are named: ``load insert replace store upload save import list delete rows gc
orphans verify``; and ``gc-soak``, which takes half an hour, only if it is named. Prints a table for each, and writes
``benchmarks.json`` and ``benchmarks.svg`` into ``benchmarks/results/``.
With ``--sqlalchemy`` it runs in a temporary environment with that version, once for each that is given, and reports all
of them together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.case import Settings
from benchmarks.results import Result
from benchmarks.virtualenv import python_with

_ROOT = Path(__file__).parent.parent
_RESULTS = Path(__file__).parent / "results"
_MODULES = {
    "load": "load",
    "insert": "insert",
    "replace": "replace",
    "store": "store",
    "upload": "upload",
    "save": "save",
    "import": "import_time",
    "list": "listing",
    "delete": "deleting",
    "rows": "rows",
    "gc": "garbage",
    "orphans": "orphans",
    "verify": "verifying",
    "gc-soak": "soaking",
}
_LONG = {"gc-soak"}


def main() -> int:
    """Run what the command line asks for; 0 if all of it ran, whether or not the goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(_MODULES)}; by default all but {', '.join(_LONG)}"
    )
    parser.add_argument("--quick", action="store_true", help="a small workload, to see that everything works")
    parser.add_argument("--rounds", type=int, help="how often each contender runs; 7 by default")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="a folder on a disk, for files")
    parser.add_argument("--sqlalchemy", action="append", default=[], help="run on this version; may be given again")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="where the JSON and the plot go")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in _MODULES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(_MODULES)}")
    rounds = given.rounds or (3 if given.quick else 7)
    if rounds < 1:
        parser.error(f"--rounds is a number of rounds, 1 or more, not {rounds}")
    names = given.names or [name for name in _MODULES if name not in _LONG]
    settings = Settings(rounds, given.quick, given.directory)
    given.output.mkdir(parents=True, exist_ok=True)
    if given.sqlalchemy:
        return _run_elsewhere(given.sqlalchemy, names, settings, given.output)
    return _run_here(names, settings, given.output)


def _run_here(names: list[str], settings: Settings, output: Path) -> int:
    from benchmarks.environment import describe
    from benchmarks.report import heading, summary, table

    environment = describe(settings)
    print(heading(environment), flush=True)
    results: list[Result] = []
    for name in names:
        run: Callable[[Settings], Iterator[Result]] = import_module(f"benchmarks.{_MODULES[name]}").run
        for result in run(settings):
            results.append(result)
            print(f"\n{table(result)}", flush=True)
    print(f"\n{summary(results)}")
    _write([{"environment": environment, "results": [result.to_dict() for result in results]}], output)
    return 0


def _run_elsewhere(versions: list[str], names: list[str], settings: Settings, output: Path) -> int:
    runs: list[dict[str, Any]] = []
    for version in versions:
        with python_with(version) as python, tempfile.TemporaryDirectory() as folder:
            options = ["--rounds", str(settings.rounds), "--directory", settings.directory, "--output", folder]
            options += ["--quick"] if settings.quick else []
            status = subprocess.run([python, "-m", "benchmarks", *names, *options], cwd=_ROOT, check=False).returncode
            if status:
                return status
            runs += json.loads(Path(folder, "benchmarks.json").read_text())
            print()
    _write(runs, output)
    return 0


def _write(runs: list[dict[str, Any]], output: Path) -> None:
    from benchmarks.plot import plot

    numbers, picture = output / "benchmarks.json", output / "benchmarks.svg"
    numbers.write_text(json.dumps(runs, indent=2) + "\n")
    results: list[Result] = []
    captions = []
    for run in runs:
        version = run["environment"]["SQLAlchemy"]
        results += (
            Result.from_dict({**data, "title": f"{data['title']}, SQLAlchemy {version}"}) for data in run["results"]
        )
        captions.append(f"{run['environment']['Python']}, {run['environment']['machine']}")
    drawn = plot(results, "; ".join(dict.fromkeys(captions)), picture)
    print(f"\n{numbers}\n{picture if drawn else 'no plot: nothing ran, or matplotlib is not installed'}")


if __name__ == "__main__":
    sys.exit(main())
