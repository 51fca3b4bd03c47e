"""op.convert_to_file_column and op.convert_from_file_column."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from alembic import command
from alembic.autogenerate import render_python_code
from alembic.operations import Operations
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy import LargeBinary, MetaData, insert, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from alembic_ext.operations import ConvertFromFileColumnOp, ConvertToFileColumnOp
from granite_storage import (
    ConfigurationError,
    ConversionError,
    FileColumn,
    FileMapped,
    StorageManager,
    StoragePolicy,
    StoredFile,
)
from granite_storage.orm.outbox import outbox_of
from tests.alembic_ext.projects import Project
from tests.databases import ROOT

UP = 'op.convert_to_file_column("document", "body", "report", policy="documents", batch_size=2)'
DOWN = 'op.convert_from_file_column("document", "body", "report", policy="documents", batch_size=2)'
CONTENTS = {1: b"one", 2: b"two", 3: None, 4: b"four", 5: b""}


class Archive:
    """An application before and after it has a file field, and its manager."""

    def __init__(self, folder: Path, *, trigger: bool = False, attached: bool = True) -> None:
        class Old(DeclarativeBase):
            pass

        class OldDocument(Old):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[bytes | None] = mapped_column(LargeBinary)

        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[bytes | None] = mapped_column(LargeBinary)
            report: FileMapped[StoredFile | None] = FileColumn("documents", trigger=trigger)

        self.Old, self.OldDocument, self.Base, self.Document = Old, OldDocument, Base, Document
        self.manager = StorageManager(
            {"store": (folder / "store").as_uri()}, {"documents": StoragePolicy("documents", "store")}
        )
        if attached:
            self.manager.attach(Base)

    def prepare(self, project, engine, *, to: str = "head") -> None:
        """Revisions up to the conversion; the database is before the field, or where ``to`` says."""
        project.migrate(self.Old)
        with engine.begin() as connection:
            rows = [{"id": number, "body": body} for number, body in CONTENTS.items()]
            connection.execute(insert(self.OldDocument), rows)
        project.revision(self.Base)
        if to == "field":
            project.upgrade()
        project.write(UP, DOWN)

    def bodies(self, engine) -> dict[int, bytes | None]:
        with engine.connect() as connection:
            return {row.id: row.body for row in connection.execute(select(self.OldDocument.id, self.OldDocument.body))}

    def files(self, engine) -> dict[int, bytes | None]:
        with Session(engine) as session:
            return {
                one.id: None if one.report is None else one.report.read()
                for one in session.scalars(select(self.Document))
            }

    def freed(self, engine) -> list[str]:
        with engine.connect() as connection:
            return list(connection.scalars(select(outbox_of(self.Base.metadata).c.location)))


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(tmp_path)


def at(engine) -> tuple[str, ...]:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_heads()


def columns(engine) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns("document")}


@pytest.mark.parametrize("per_migration", [False, True])
@pytest.mark.parametrize("trigger", [False, True])
def test_a_project_goes_up_down_and_up_again(project, engine, tmp_path, per_migration, trigger):
    archive = Archive(tmp_path, trigger=trigger)
    archive.prepare(project, engine)
    project.configure(transaction_per_migration=per_migration)
    project.upgrade(archive.Base)  # the field and its conversion in one run
    assert archive.files(engine) == CONTENTS == archive.bodies(engine)
    project.check(archive.Base)
    project.downgrade(models=archive.Base)
    assert archive.bodies(engine) == CONTENTS
    assert set(archive.files(engine).values()) == {None}
    assert len(archive.freed(engine)) == 4
    project.downgrade(models=archive.Base)
    assert "report" not in columns(engine)
    project.upgrade(archive.Base)
    assert archive.files(engine) == CONTENTS


def test_the_script_of_the_manual_runs(project, engine, archive):
    manual = (ROOT / "docs" / "migrations.md").read_text()
    (code,) = re.findall(r"<!-- not run: a revision that \S+ runs -->\n```python\n(.*?)```", manual, re.DOTALL)
    archive.prepare(project, engine)
    (script,) = [one for one in (project.scripts / "versions").glob("*.py") if UP in one.read_text()]
    identifiers = re.findall(r"^(?:down_)?revision.*$", script.read_text(), re.MULTILINE)
    code = code.replace(', filename_column="name"', "")  # which this table has not
    script.write_text("\n".join(["from typing import Sequence, Union", *identifiers, code]))
    project.upgrade(archive.Base)
    assert archive.files(engine) == CONTENTS
    project.downgrade(models=archive.Base)
    assert set(archive.files(engine).values()) == {None}


def test_an_upgrade_that_stopped_goes_on_where_it_was(project, engine, archive):
    archive.prepare(project, engine, to="field")
    before = at(engine)
    archive.manager._policies["documents"] = StoragePolicy("documents", "store", min_size=1)
    with pytest.raises(ConversionError, match=r"document \(id=5\)"):
        project.upgrade(archive.Base)
    assert at(engine) == before
    assert archive.files(engine) == {**CONTENTS, 5: None}
    done = {file.location for file in files_of(engine, archive)}
    archive.manager._policies["documents"] = StoragePolicy("documents", "store")
    project.upgrade(archive.Base)
    assert archive.files(engine) == CONTENTS
    assert done < {file.location for file in files_of(engine, archive)}


MODELS = """
from pathlib import Path
from sqlalchemy import LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile

class Base(DeclarativeBase):
    pass

class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    report: FileMapped[StoredFile | None] = FileColumn("documents")

manager = StorageManager({"store": (Path(__file__).parent / "store").as_uri()},
                         {"documents": StoragePolicy("documents", "store")})
manager.attach(Base)
"""
KILLED = """
def killed(progress):
    if (count := progress.rows) == int(os.environ["KILL_AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kill_after", [2, 4])
def test_alembic_itself_is_killed_between_batches_and_goes_on(project, engine, archive, tmp_path, kill_after):
    archive.prepare(project, engine)
    (script,) = [one for one in (project.scripts / "versions").glob("*.py") if UP in one.read_text()]
    text = script.read_text().replace("batch_size=2", "batch_size=2, progress=killed")
    script.write_text(text.replace("def upgrade()", f"import os, signal\n{KILLED}\n\ndef upgrade()"))
    (tmp_path / "models.py").write_text(MODELS)
    env = project.scripts / "env.py"
    text = env.read_text().replace('config.attributes["metadata"]', "__import__('models').Base.metadata")
    env.write_text(text.replace('**config.attributes["options"], ', ""))
    ini = tmp_path / "alembic.ini"
    ini.write_text(
        f"[alembic]\nscript_location = {project.scripts}\nprepend_sys_path = .\n"
        f"sqlalchemy.url = {project.config.get_main_option('sqlalchemy.url').replace('%', '%%')}\n"
        + ini.read_text()[ini.read_text().index("[loggers]") :]
    )

    def alembic(way: str, kill_after: int) -> int:
        paths = f"{tmp_path}{os.pathsep}{ROOT}"
        environment = {**os.environ, "KILL_AFTER": str(kill_after), "PYTHONPATH": paths}
        command = [sys.executable, "-m", "alembic", *way.split()]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True).returncode

    for way, end in (("upgrade head", CONTENTS), ("downgrade -1", dict.fromkeys(CONTENTS))):
        assert alembic(way, kill_after) == -signal.SIGKILL
        before = at(engine)
        files = archive.files(engine)
        done = sum(files[number] == end[number] for number in (1, 2, 4, 5))
        assert done == kill_after
        assert alembic(way, -1) == 0
        assert at(engine) != before
        assert archive.files(engine) == end
    assert archive.bodies(engine) == CONTENTS


def files_of(engine, archive):
    with Session(engine) as session:
        return [one for one in session.scalars(select(archive.Document.report)) if one is not None]


def test_a_downgrade_that_stopped_goes_on_where_it_was(project, engine, archive):
    archive.prepare(project, engine)
    project.upgrade(archive.Base)
    stamped = at(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE document SET body = NULL")
    (last,) = [file for file in files_of(engine, archive) if file.size == 4]
    backend = archive.manager.backends["store"]
    content = backend.get(last.ref)
    backend.delete(last.ref)
    with pytest.raises(ConversionError, match=r"document \(id=4\).*no object"):
        project.downgrade(models=archive.Base)
    assert at(engine) == stamped
    backend.put_bytes(key=last.location, content=content)
    project.downgrade(models=archive.Base)
    assert archive.bodies(engine) == CONTENTS


@pytest.mark.parametrize("made", ["add_file_column", "register_file_column"])
def test_a_column_of_the_very_script_is_refused_and_nothing_is_committed(project, engine, archive, made):
    project.migrate(archive.Old)
    column = 'sa.Column("report", sa.JSON())'
    script = {
        "add_file_column": f'op.add_file_column("document", {column}, policy="documents")',
        "register_file_column": f'op.add_column("document", {column})\n'
        'op.register_file_column("document", "report", policy="documents")',
    }[made]
    project.write(f"op.create_storage_registry()\n{script}\n{UP}")
    before = at(engine)
    with pytest.raises(ConfigurationError, match="one revision, and convert in the next"):
        project.upgrade(archive.Base)
    assert at(engine) == before
    if engine.dialect.name == "postgresql":  # the others commit each DDL statement by itself
        assert "report" not in columns(engine)


@pytest.mark.parametrize("registry", [False, True])
def test_a_column_that_is_no_file_field_is_refused(engine, archive, registry):
    archive.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM granite_storage_fields WHERE table_name = 'document'")
        if not registry:
            connection.exec_driver_sql("DROP TABLE granite_storage_fields")
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection, opts={"target_metadata": archive.Base.metadata}))
        if registry:
            with pytest.raises(ConfigurationError, match=r"op\.register_file_column\('document', 'report'"):
                op.convert_to_file_column("document", "body", "report", policy="documents")
        else:  # a database that was made without one
            assert op.convert_to_file_column("document", "body", "report", policy="documents").total == 0


def test_a_transaction_around_alembics_own_is_refused(engine, archive):
    archive.Base.metadata.create_all(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": archive.Base.metadata})
        refused = pytest.raises(ConfigurationError, match=r"not engine\.begin\(\) or connection\.begin\(\)")
        with connection.begin(), context.begin_transaction(), refused:
            Operations(context).convert_to_file_column("document", "body", "report", policy="documents")


def test_a_connection_in_a_transaction_is_refused(engine, archive):
    archive.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection, opts={"target_metadata": archive.Base.metadata}))
        with pytest.raises(ConfigurationError, match=r"engine\.connect\(\), not engine\.begin\(\)"):
            op.convert_to_file_column("document", "body", "report", policy="documents")


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("per_migration", [False, True])
def test_it_commits_on_connections_of_every_kind(engine, archive, begin, per_migration):
    archive.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(archive.Document), [{"id": 1, "body": b"one"}])
    with engine.connect() as connection:
        opts = {"target_metadata": archive.Base.metadata, "transaction_per_migration": per_migration}
        context = MigrationContext.configure(connection, opts=opts)
        op = Operations(context)
        if begin:
            with context.begin_transaction(_per_migration=per_migration):
                report = op.convert_to_file_column("document", "body", "report", policy="documents")
        else:
            report = op.convert_to_file_column("document", "body", "report", policy="documents")
        level = connection.get_isolation_level()
        connection.rollback()
        assert (level == "AUTOCOMMIT") is False
    assert report.rows == 1
    assert archive.files(engine) == {1: b"one"}


def test_a_script_of_sql_cannot_convert_and_says_so_first(project, engine, archive):
    archive.prepare(project, engine, to="field")
    project.config.output_buffer = buffer = io.StringIO()
    with pytest.raises(ConfigurationError, match="online"):
        command.upgrade(project.config, f"{at(engine)[0]}:head", sql=True)
    assert "document" not in buffer.getvalue()


@pytest.mark.parametrize("way", ["given", "named", "env.py", "env.py by name", "attached", "one of several"])
def test_the_manager_is_found(engine, tmp_path, monkeypatch, way):
    archive = Archive(tmp_path, attached="attached" in way or "several" in way)
    archive.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(archive.Document), [{"id": 1, "body": b"one"}])
    module = ModuleType("an_application")
    module.storage = type("Storage", (), {"manager": archive.manager})
    monkeypatch.setitem(sys.modules, "an_application", module)
    name = "an_application:storage.manager"
    opts, options = {}, {}
    if way in ("given", "named"):
        options = {"manager": archive.manager if way == "given" else name}
    elif "env.py" in way:
        opts = {"granite_storage_manager": archive.manager if way == "env.py" else name}
    else:
        opts = {"target_metadata": archive.Base.metadata}
        if way == "one of several":
            opts = {"target_metadata": [MetaData(), archive.Base.metadata]}
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection, opts=opts))
        assert op.convert_to_file_column("document", "body", "report", policy="documents", **options).rows == 1


@pytest.mark.databases("sqlite")
def test_without_a_manager_every_way_to_give_one_is_told(engine, tmp_path):
    archive = Archive(tmp_path, attached=False)
    archive.Base.metadata.create_all(engine)
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection, opts={"target_metadata": archive.Base.metadata}))
        with pytest.raises(ConfigurationError) as caught:
            op.convert_to_file_column("document", "body", "report", policy="documents")
    told = str(caught.value)
    assert 'manager="package.module:manager"' in told
    assert "context.configure(..., granite_storage_manager=manager)" in told
    assert "manager.attach(Base)" in told


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("given", ["no_such_module:manager", "sys:no_such_name", "sys", "sys:path", 5])
def test_what_is_no_manager_is_named(engine, archive, given):
    archive.Base.metadata.create_all(engine)
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection))
        with pytest.raises(ConfigurationError, match=str(given)):
            op.convert_to_file_column("document", "body", "report", policy="documents", manager=given)


@pytest.mark.databases("postgresql")
def test_the_async_template_converts_through_asyncpg(database, engine, tmp_path, archive):
    converts(Project(tmp_path, database.url_through("asyncpg"), template="async"), engine, archive)


@pytest.mark.databases("sqlite")
def test_the_async_template_converts_through_aiosqlite(database, engine, tmp_path, archive):
    converts(Project(tmp_path, database.url_through("aiosqlite"), template="async"), engine, archive)


def converts(project, engine, archive):
    archive.prepare(project, engine)
    project.upgrade(archive.Base)
    assert archive.files(engine) == CONTENTS
    project.downgrade(models=archive.Base)
    assert archive.bodies(engine) == CONTENTS
    assert set(archive.files(engine).values()) == {None}


@pytest.mark.databases("sqlite")
def test_progress_is_told_after_each_batch(engine, archive):
    archive.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(archive.Document), [{"id": n, "body": b"x" * n} for n in range(1, 6)])
    told = []
    with engine.connect() as connection:
        op = Operations(MigrationContext.configure(connection, opts={"target_metadata": archive.Base.metadata}))
        options = {"policy": "documents", "batch_size": 2, "progress": told.append}
        op.convert_to_file_column("document", "body", "report", **options)
    assert [(one.rows, one.total, one.size) for one in told] == [(2, 5, 3), (4, 5, 10), (5, 5, 15)]


def test_each_is_the_others_reverse():
    op = ConvertToFileColumnOp("document", "body", "report", policy="documents", schema="a", encoding="latin-1")
    back = op.reverse()
    assert isinstance(back, ConvertFromFileColumnOp)
    assert vars(back) == vars(op)
    assert vars(back.reverse()) == vars(op)
    assert isinstance(back.reverse(), ConvertToFileColumnOp)
    called = "op.convert_to_file_column('document', 'body', 'report', policy='documents', schema='a', "
    assert f"{called}encoding='latin-1')" in render_python_code(UpgradeOps([op]))
    assert op.to_diff_tuple() == ("convert_to_file_column", "a", "document", "body", "report")
