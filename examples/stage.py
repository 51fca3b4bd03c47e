"""What the demo shows: the code of a step, what was checked, and the tree of stored files beside the rows."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import Document, Person
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

FIELDS = ((Person, "portrait"), (Document, "report"), (Document, "cover"))
COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "blue": "34"}


class WrongOutcomeError(Exception):
    """A step did not do what it says."""


def paint(text: str, colour: str) -> str:
    """The text in a colour, if a terminal shows it."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


class Stage:
    """Where the steps are played: it counts checks and remembers the tree as it was."""

    def __init__(self, engine: Engine, files: Path) -> None:
        self.engine = engine
        self.files = files
        self.checks = 0
        self._before: dict[str, int] = {}

    def check(self, what: str, fact: bool) -> None:
        """Say that ``what`` is true; stop the demo if it is not."""
        self.checks += 1
        if not fact:
            raise WrongOutcomeError(what)
        print(paint("  checked  ", "green") + what)

    def play(self, number: int, step: Callable[[Any, Stage], None]) -> None:
        """One step: its title, its code, its checks, and the tree before and after it."""
        print("\n" + paint(f"{number}. {inspect.getdoc(step)}", "bold"))
        print(textwrap.indent(paint(_code_of(step), "blue"), "    "))
        with Session(self.engine) as session:
            step(session, self)
        self.show("the files, and the rows that name them", committed=True)

    def show(self, title: str, *, committed: bool = False) -> None:
        """The tree of stored files: ``+`` is new and ``-`` is gone since it was shown last.

        After a transaction every file must have exactly one row, and every row its file, with the bytes it describes.
        """
        rows = self._rows()
        after = {
            path.relative_to(self.files).as_posix(): path.stat().st_size
            for path in self.files.rglob("*")
            if path.is_file() and ".granite-storage" not in path.parts  # where it notes whose files these are
        }
        print(paint(f"  {title}:", "dim"))
        folder = None
        for location in sorted(self._before | after):
            if folder != (folder := location.rpartition("/")[0]):
                print(f"      {folder}/")
            if location not in after:
                print(paint(f"    - {_short(location):20} is gone", "red"))
                continue
            named = ", ".join(rows.get(location, ())) or "no committed row"
            sign, colour = ("  ", "dim") if location in self._before else ("+ ", "green")
            print(paint(f"    {sign}{_short(location):20} {after[location]:>6} bytes   <- {named}", colour))
        if not self._before and not after:
            print("      (none)")
        self._before = after
        if committed:
            one_to_one = sorted(rows) == sorted(after) and all(len(names) == 1 for names in rows.values())
            self.check("each file is named by exactly one row, and each row has its file", one_to_one)

    def _rows(self) -> dict[str, list[str]]:
        """Which rows name which location, read in a transaction of its own; each file is compared with its ref."""
        named: dict[str, list[str]] = {}
        with Session(self.engine) as session:
            for model, field in FIELDS:
                for row in session.scalars(select(model).where(getattr(model, field).is_not(None)).order_by(model.id)):
                    file = getattr(row, field)
                    named.setdefault(file.location, []).append(f"{model.__tablename__} {row.id}: {field}")
                    path = self.files / file.location
                    if not path.is_file() or f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" != file.checksum:
                        raise WrongOutcomeError(f"{named[file.location][-1]} names bytes that are not there")
        return named


def _short(location: str) -> str:
    return "..." + location.rpartition("-")[2]


def _code_of(step: Callable[..., Any]) -> str:
    """A step's own lines, without its docstring and its checks."""
    lines = textwrap.dedent(inspect.getsource(step).partition('"""')[2].partition('"""\n')[2]).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("stage."))
