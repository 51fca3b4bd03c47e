"""An application in a module of its own, which other processes can import: with SQLite, and files in a folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.databases import ROOT

__all__ = ["Shop", "made_shop"]

_NAME = "granite_test_shop"
_MODULE = """
import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from granite_storage import FileColumn, StorageManager, StoragePolicy
from granite_storage.gc import StorageGarbageCollector
from granite_storage.move import StorageMover
from granite_storage.verify import StorageVerifier

FOLDER = os.environ["SHOP_FOLDER"]


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report = FileColumn("documents")
    scan = FileColumn("documents")


engine = create_engine(f"sqlite:///{FOLDER}/app.db", connect_args={"timeout": 30})
manager = StorageManager(
    {"local": f"file://{FOLDER}/files", "shelf": f"file://{FOLDER}/shelf"},
    {
        "documents": StoragePolicy("documents", "local"),
        "covers": StoragePolicy("covers", "local"),
        "archive": StoragePolicy("archive", "shelf"),
    },
)
manager.attach(Base, engine=engine)


def _note():
    with open(f"{FOLDER}/workers", "a") as file:
        file.write(f"{os.getpid()}\\n")


def make_collector():
    _note()
    return StorageGarbageCollector(manager)


def make_verifier():
    _note()
    return StorageVerifier(manager)


def make_mover():
    _note()
    return StorageMover(manager)
"""


@dataclass(frozen=True)
class Shop:
    """The application.

    :param module: its module: ``engine``, ``manager``, ``Document``, ``make_collector`` and the like.
    :param folder: where all its files are.
    """

    module: Any
    folder: Path

    def check_workers(self, least: int = 2) -> None:
        """What was made was made in other processes, that many times, but once, here, for the caller."""
        makers = (self.folder / "workers").read_text().split()
        here = str(os.getpid())
        assert makers.count(here) == 1 and len(makers) > least


@contextmanager
def made_shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """An application whose tables are there, and empty."""
    (folder / f"{_NAME}.py").write_text(_MODULE)
    monkeypatch.setenv("SHOP_FOLDER", str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module(_NAME)
    try:
        module.Base.metadata.create_all(module.engine)
        yield Shop(module, folder)
    finally:
        module.engine.dispose()
        del sys.modules[_NAME]
