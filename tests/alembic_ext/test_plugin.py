"""How Alembic finds this package: in a project that nobody set up, from the command line."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import alembic
import pytest

import alembic_ext
from tests.alembic_ext.projects import HAS_PLUGINS, commands, with_files

NAME = "alembic.autogenerate.granite_storage"

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from granite_storage import FileColumn, FileMapped, StoredFile

class Base(DeclarativeBase):
    pass

class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("documents")
    cover: FileMapped[StoredFile | None] = FileColumn("documents", trigger=True)

class OtherBase(DeclarativeBase):
    pass

class Other(OtherBase):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
TEMPLATES = {path.name for path in (Path(alembic.__file__).parent / "templates").iterdir()}
"""What `alembic init` offers: pyproject since 1.16."""


def python(*args: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True, check=True)


def stock_project(folder, template, url, target="Base.metadata"):
    """What `alembic init` makes, with the models as env.py's target; gives what calls `alembic` in it."""

    def alembic(*args: str) -> str:
        done = python("-W", "error::DeprecationWarning:alembic", "-m", "alembic", *args, cwd=folder)
        return done.stdout + done.stderr

    alembic("init", "--template", template, "migrations")
    (folder / "models.py").write_text(MODELS)
    env = folder / "migrations" / "env.py"
    env.write_text(
        re.sub(
            r"target_metadata = (None|\{\})\n", f"from models import *\ntarget_metadata = {target}\n", env.read_text()
        )
    )
    ini = folder / "alembic.ini"
    told = url.render_as_string(hide_password=False).replace("%", "%%")
    ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", told))
    return alembic


def goes_up_and_down(folder, alembic) -> None:
    told = alembic("revision", "--autogenerate", "-m", "files")
    if HAS_PLUGINS:
        assert "arning" not in told
    (script,) = (folder / "migrations" / "versions").glob("*_files.py")
    imports = [line for line in script.read_text().splitlines() if "import " in line]
    assert not any("granite_storage" in line for line in imports)
    alembic("upgrade", "head")
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    alembic("upgrade", "head", "--sql")


@pytest.mark.parametrize("template", sorted(TEMPLATES & {"generic", "pyproject"}))
def test_a_stock_project_needs_no_set_up(tmp_path, database, engine, template):
    goes_up_and_down(tmp_path, stock_project(tmp_path, template, database.url))


@pytest.mark.databases("sqlite", "postgresql")
@pytest.mark.parametrize("template", sorted(TEMPLATES & {"async", "pyproject_async"}))
def test_a_stock_project_of_an_async_engine_needs_no_set_up(tmp_path, database, engine, template):
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[database.name]
    goes_up_and_down(tmp_path, stock_project(tmp_path, template, database.url_through(driver)))


@pytest.mark.databases("sqlite")
def test_a_stock_project_of_several_databases_needs_no_set_up(tmp_path, database, engine):
    """One that has file fields, and one that has none."""
    target = "{'engine1': Base.metadata, 'engine2': OtherBase.metadata}"
    alembic = stock_project(tmp_path, "multidb", database.url, target)
    ini, url = tmp_path / "alembic.ini", database.url.render_as_string(hide_password=False)
    ini.write_text(ini.read_text().replace(f"{url}2", "sqlite:///other.db"))
    alembic("revision", "--autogenerate", "-m", "files")
    alembic("upgrade", "head")
    other = sqlite3.connect(tmp_path / "other.db")
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'granite%' OR name = 'other'"
    assert other.execute(tables).fetchall() == [("other",)]
    other.close()
    alembic("revision", "--autogenerate", "-m", "more")
    (script,) = (tmp_path / "migrations" / "versions").glob("*_more.py")
    assert commands(script.read_text()) == []
    alembic("downgrade", "base")


def test_the_library_does_not_import_alembic():
    assert python("-c", "import sys, granite_storage; print('alembic' in sys.modules)").stdout == "False\n"


def test_alembic_does_not_import_the_library_before_it_compares():
    code = "import sys, alembic, alembic.command; print([n for n in sys.modules if n.startswith('granite_storage')])"
    assert python("-c", code).stdout == "[]\n"


def test_the_entry_point_is_the_module_under_a_name_that_runs_by_default():
    (entry_point,) = entry_points(group="alembic.plugins", name=NAME)
    assert entry_point.load() is alembic_ext


def test_a_loader_that_iterates_the_entry_point_gets_the_module():
    assert isinstance(alembic_ext, ModuleType)
    assert list(alembic_ext) == [alembic_ext]


@pytest.mark.databases("sqlite")
def test_it_can_be_switched_off_by_name(project):
    if HAS_PLUGINS:  # earlier ones have nothing to name
        project.configure(autogenerate_plugins=["alembic.autogenerate.*", f"~{NAME}"])
    with pytest.warns(UserWarning, match="skipping") if HAS_PLUGINS else contextlib.nullcontext():
        script = project.revision(with_files())
    assert ("document__report__location" not in " ".join(commands(script))) is HAS_PLUGINS


def test_a_project_whose_own_folder_is_named_alembic_starts(tmp_path):
    (tmp_path / "alembic").mkdir()
    (tmp_path / "alembic" / "__init__.py").touch()
    code = "import sys; sys.path.insert(0, '.'); import alembic, granite_storage; print(alembic.__file__)"
    assert str(tmp_path) in python("-c", code, cwd=tmp_path).stdout
