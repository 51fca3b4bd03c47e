"""Messages of the library name keyword arguments; on the command line they name its options."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from granite_storage import StorageManager
from granite_storage.cli.remedies import told
from granite_storage.gc import StorageGarbageCollector
from granite_storage.maintenance.ingest import Conversion
from granite_storage.move import StorageMover
from granite_storage.verify import StorageVerifier
from tests.databases import ROOT

LIBRARY = ROOT / "granite_storage"
MODULES = sorted(
    [*(LIBRARY / "maintenance").rglob("*.py")]
    + [LIBRARY / f"{name}.py" for name in ("gc", "move", "ownership", "refs", "stats", "verify", "verifying")]
)
CALLED = (
    StorageGarbageCollector.collect,
    StorageVerifier.verify,
    StorageMover.move,
    StorageManager.sweep,
    StorageManager.take_ownership,
)
KEYWORDS = {name for call in CALLED for name in inspect.signature(call).parameters} | {
    field.name for field in fields(Conversion)
}
PYTHON = re.compile(
    rf"\b(?:{'|'.join(sorted(KEYWORDS))})=|\b(?:collect|sweep|verify|move|take_ownership|convert_to_file_column)\("
)
NEVER_PRINTED = (  # the command line gives no such value, and has no executor but one of threads
    "give make=, a function of a module that is there",
    "what make= gives is no mover",
    "kind='X' is none of",
    "on_error='X' is neither",
    "give the models: StorageGarbageCollector(",
    "attach(Base, engine=engine)",  # is of the application, whose own words it is in
)


def messages() -> Iterator[str]:
    """Every text in the sources that is no docstring, with an X for each value in it."""
    for module in MODULES:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value)
                    if isinstance(part, ast.Constant)
                    else "'X'"
                    if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
                    else "X"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
                yield node.value


PHRASES = sorted(
    {text for text in messages() if PYTHON.search(text) and not any(part in text for part in NEVER_PRINTED)}
)


def test_the_sources_are_looked_at() -> None:
    assert len(PHRASES) > 15 and "sweep(force=True)" in PHRASES


@pytest.mark.parametrize("phrase", PHRASES)
def test_what_the_library_advises_is_told_in_words_of_the_command_line(phrase: str) -> None:
    for what in ("collector", "verifier", "mover"):
        said = told("document.body: " + phrase.replace("gives a X", f"gives a {what}"))
        assert not PYTHON.search(said) and ("--" in said or "granite-storage adopt" in said)


def test_what_names_no_argument_stays() -> None:
    for said in (
        "document (kind='text', root='x') was not converted",
        "assign the file anew: manager.copy() makes one",
    ):
        assert told(said) == said
