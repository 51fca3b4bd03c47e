"""How Alembic finds this package: in a project that nobody set up, from the command line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from importlib.metadata import entry_points
from types import ModuleType

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
    cover: FileMapped[StoredFile | None] = FileColumn("documents")
"""


def python(*args: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True, check=True)


def test_a_stock_project_needs_no_set_up(tmp_path, database, engine):
    def alembic(*args: str) -> str:
        done = python("-W", "error::DeprecationWarning:alembic", "-m", "alembic", *args, cwd=tmp_path)
        return done.stdout + done.stderr

    alembic("init", "migrations")
    (tmp_path / "models.py").write_text(MODELS)
    env = tmp_path / "migrations" / "env.py"
    env.write_text(
        env.read_text().replace("target_metadata = None", "from models import Base\ntarget_metadata = Base.metadata")
    )
    ini = tmp_path / "alembic.ini"
    url = database.url.render_as_string(hide_password=False).replace("%", "%%")
    ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", url))
    told = alembic("revision", "--autogenerate", "-m", "files")
    if HAS_PLUGINS:
        assert "arning" not in told
    (script,) = (tmp_path / "migrations" / "versions").glob("*_files.py")
    assert "granite_storage" not in script.read_text()
    alembic("upgrade", "head")
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    alembic("upgrade", "head", "--sql")


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
    assert ("location" not in " ".join(commands(script))) is HAS_PLUGINS


def test_a_project_whose_own_folder_is_named_alembic_starts(tmp_path):
    (tmp_path / "alembic").mkdir()
    (tmp_path / "alembic" / "__init__.py").touch()
    code = "import sys; sys.path.insert(0, '.'); import alembic, granite_storage; print(alembic.__file__)"
    assert str(tmp_path) in python("-c", code, cwd=tmp_path).stdout
