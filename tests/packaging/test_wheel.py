"""A wheel built from the tree works in an empty environment outside it.

The environment gets the wheel and, of the distributions installed here, exactly those that the wheel declares it needs
(their files, no index is asked): an undeclared import fails there as it would at a user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.databases import ROOT

PACKAGES = ("granite_storage", "alembic_ext")

PROGRAM = """
import sys, tempfile
from pathlib import Path

import granite_storage
from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

class Base(DeclarativeBase):
    pass

class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("documents")

with tempfile.TemporaryDirectory() as folder:
    manager = StorageManager(
        backends={"local": Path(folder, "files").as_uri()},
        policies={"documents": StoragePolicy("documents", "local")},
    )
    manager.attach(Base)
    engine = create_engine(f"sqlite:///{folder}/test.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Document(id=1, report=b"stored and read"))
        session.commit()
    with Session(engine) as session:
        document = session.scalars(select(Document).where(Document.report.size == 15)).one()
        with document.report.open() as stream:
            assert stream.read() == b"stored and read"
    engine.dispose()

assert "boto3" not in sys.modules
print(granite_storage.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree so that no build folder stays in it or leaks into the wheel."""
    tree, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, *_PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", target, tree)
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that holds the wheel and what it declares."""
    environment = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    _run(sys.executable, *_PIP, "--python", python, "install", "--no-deps", "--no-index", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    (installed,) = metadata.distributions(name="granite-storage", path=[str(packages)])
    for name in _needed_by(installed):
        _copy_files(metadata.distribution(name), packages)
    return python


def test_the_wheel_holds_both_packages_whole_with_their_typing_markers(wheel: Path):
    files = (path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*"))
    expected = {path.as_posix() for path in files if path.suffix == ".py" or path.name == "py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {f"{name}/py.typed" for name in PACKAGES} <= held


def test_the_wheel_stores_and_reads_a_file_through_a_model(empty_environment: Path, tmp_path: Path):
    printed = _run(empty_environment, "-c", PROGRAM, cwd=tmp_path)
    assert Path(printed.strip()).is_relative_to(empty_environment.parent.parent)


def test_the_wheel_declares_all_that_it_needs(empty_environment: Path):
    _run(sys.executable, *_PIP, "--python", empty_environment, "check")


def test_alembic_finds_the_extension_by_its_entry_point(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        text = archive.read(name).decode()
    assert "[alembic.plugins]\nalembic.autogenerate.granite_storage = alembic_ext\n" in text


_PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def _run(*command: object, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def _needed_by(distribution: metadata.Distribution) -> set[str]:
    """The names of all distributions that a distribution needs, directly or not, without any extra."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        for line in waiting.pop().requires or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(name)
                waiting.append(metadata.distribution(name))
    return found


def _copy_files(distribution: metadata.Distribution, packages: Path) -> None:
    for file in distribution.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)
