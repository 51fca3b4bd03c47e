"""``alembic upgrade --sql``: what autogenerate wrote is printed, and the server runs it as one script, up and down."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pymysql.constants import CLIENT
from sqlalchemy import MetaData

from granite_storage import FileColumn
from granite_storage.orm.options import metadata_options
from tests.alembic_ext.operations.running import models
from tests.alembic_ext.projects import Project


def file(policy: str = "documents", **options: Any) -> Any:
    return FileColumn(policy, **options)


def cover() -> Any:
    # no backslash: before it has met the server, SQLAlchemy 2.0.36 doubles it in what it prints for PostgreSQL
    return file("covers", name="The Cover", comment="it's 100% :sure; and so", trigger=True)


def renamed(**columns: Any) -> Any:
    return models(MetaData(info=metadata_options(outbox="freed files", registry="file fields")), **columns)


VERSIONS: list[Callable[[], Any]] = [
    models,
    lambda: models(report=file(trigger=True)),
    lambda: models(report=file(trigger=True, indexes=["size"]), cover=cover()),
    lambda: models(report=file("archive", trigger=True, indexes=["size"]), cover=cover()),
    lambda: models(paper=file("archive", trigger=True, indexes=["size", "filename"]), cover=cover()),
    lambda: models(paper=file("archive", location_index=False), scan=file("it's")),
    lambda: renamed(paper=file("archive", trigger=True), scan=file("it's")),
    lambda: renamed(table="Two Words", paper=file("archive", trigger=True)),
    models,
    MetaData,
]


def run(project: Project, what: Any, revisions: str) -> None:
    """Print a script, and give it to the server in one piece, as its own client does."""
    printed = io.StringIO()
    config = project.config
    config.output_buffer = printed
    with contextlib.redirect_stdout(io.StringIO()):
        what(config, revisions, sql=True)
    dialect = project.url.get_dialect()()
    arguments, options = dialect.create_connect_args(project.url)
    if dialect.name == "mariadb":
        options["client_flag"] = CLIENT.MULTI_STATEMENTS
    connection: Any = dialect.import_dbapi().connect(*arguments, **options)
    if dialect.name == "sqlite":
        connection.executescript(printed.getvalue())
    else:
        cursor = connection.cursor()
        cursor.execute(printed.getvalue())
        while cursor.nextset():
            pass
        connection.commit()
    connection.close()


@pytest.fixture
def revisions(project, engine) -> list[str]:
    """The revisions that lead from each version to the next; the database is empty again."""
    for version in VERSIONS:
        project.migrate(version())
    project.downgrade("base")
    project.execute("DROP TABLE alembic_version")
    made = ScriptDirectory.from_config(project.config).walk_revisions()
    return [one.revision for one in reversed(list(made))]


def test_printed_scripts_lead_up_and_down(project, revisions):
    for number, version in enumerate(VERSIONS):
        before = revisions[number - 1] if number else "base"
        run(project, command.upgrade, f"{before}:{revisions[number]}")
        assert project.differences(version()) == []
    for number in range(len(VERSIONS) - 1, 0, -1):
        run(project, command.downgrade, f"{revisions[number]}:{revisions[number - 1]}")
        assert project.differences(VERSIONS[number - 1]()) == []
    run(project, command.downgrade, f"{revisions[0]}:base")
    assert project.tables() == set()
