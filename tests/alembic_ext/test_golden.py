"""The scripts of a worked example, kept as files so that a change in rendering is seen in review; the manual has them.

After a change that is meant: ``GRANITE_UPDATE_GOLDEN=1 make test ARGS=tests/alembic_ext/test_golden.py``, and read the
difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Index, Integer, MetaData, String, Table

from granite_storage import FileColumn, StoredObjectRefType
from tests.alembic_ext.operations.running import models
from tests.alembic_ext.projects import Project
from tests.databases import ROOT

GOLDEN = Path(__file__).parent / "golden"
MANUAL = ROOT / "docs" / "migrations.md"


def with_own_index(**columns: Any) -> Any:
    Base = models(**columns)
    Index("ix_document_type_size", Base.Document.report.content_type, Base.Document.report.size)
    return Base


def from_mixin(project: Project) -> Any:
    """A column that 0.1.0's mixin made."""
    old = MetaData()
    columns = [Column("id", Integer, primary_key=True), Column("title", String(50))]
    Table("document", old, *columns, Column("_file_ref", StoredObjectRefType()))
    project.migrate(old)


def as_json(project: Project) -> Any:
    """A column that is JSON where it should be JSONB."""
    old = MetaData()
    columns = [Column("id", Integer, primary_key=True), Column("title", String(50))]
    Table("document", old, *columns, Column("report", JSON()))
    project.migrate(old)


def dropped_by_hand(project: Project) -> None:
    of = " ON document" if project.url.get_backend_name() == "postgresql" else ""
    project.execute(f"DROP TRIGGER tr_document__report__delete{of}")


def renamed_by_hand(project: Project) -> None:
    project.execute("ALTER TABLE document RENAME TO letter")


def field(policy: str, **options: Any) -> Any:
    return FileColumn(policy, **options)


# Each chapter begins on an empty database: what happens in it by hand or in the models, and the name of the script.
Step = tuple[str | None, Callable[[], Any] | Callable[[Project], Any]]
CHAPTERS: dict[str, list[Step]] = {
    "fields": [
        (None, models),
        ("first_field", lambda: models(report="documents")),
        ("field_added", lambda: models(report="documents", cover=field("covers", comment="shown in lists"))),
        ("comment", lambda: models(report="documents", cover=field("covers", comment="a picture"))),
        ("rebound", lambda: models(report="archive", cover=field("covers", comment="a picture"))),
        ("field_dropped", lambda: models(report="archive")),
        ("field_renamed", lambda: models(paper="archive")),
    ],
    "nullable": [
        (None, lambda: models(report=field("documents", trigger=True))),
        ("nullable", lambda: models(report=field("documents", trigger=True, nullable=False))),
    ],
    "triggers": [
        (None, lambda: models(report="documents")),
        ("triggers_on", lambda: models(report=field("documents", trigger=True))),
        (None, dropped_by_hand),
        ("triggers_lost", lambda: models(report=field("documents", trigger=True))),
        (None, renamed_by_hand),
        ("table_renamed", lambda: models(table="letter", report=field("documents", trigger=True))),
    ],
    "member_index": [
        (None, lambda: models(paper="documents")),
        ("member_index", lambda: models(paper=field("documents", indexes=["size"]))),
        ("member_index_renamed", lambda: models(report=field("documents", indexes=["size"]))),
        (None, lambda: models(report="documents")),
        ("own_index", lambda: with_own_index(report="documents")),
    ],
    "mixin": [(None, from_mixin), ("mixin", lambda: models(file=field("documents", name="_file_ref")))],
    "type": [(None, as_json), ("type", lambda: models(report="documents"))],
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_scripts_are_as_they_were(project, database, chapter):
    project.configure(render_as_batch=database.name == "sqlite")
    for name, step in CHAPTERS[chapter]:
        if step in (from_mixin, as_json, dropped_by_hand, renamed_by_hand):
            step(project)
        elif name is None:
            project.migrate(step())
        else:
            script = body(project.migrate(step()))
            path = GOLDEN / database.name / f"{name}.txt"
            if os.environ.get("GRANITE_UPDATE_GOLDEN"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(script)
            assert script == path.read_text(), f"{path} is another; see the top of this file"


def body(script: str) -> str:
    """What a script imports of ours and does, without what is another each time or in another version of Alembic."""
    imports = [line for line in script.splitlines() if line.startswith("import alembic_ext")]
    text = "\n".join([*imports, "", script[script.index("def upgrade") :]])
    text = re.sub(r"op\.f\(('[^']*')\)", r"\1", text)
    text = re.sub(r'(?<=\[|\s)sa\.text\((?=")', "sa.literal_column(", text)
    return re.sub(r'\n    """.*?"""|\n    # ###.*', "", text).strip() + "\n"


def shown() -> list[tuple[str, str]]:
    """The scripts that the manual shows, each with the golden file that it is of."""
    found = re.findall(r"<!-- not run: golden (\S+) -->\n```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    return list(found)


def test_the_manual_shows_every_kind_of_script():
    names = {name for steps in CHAPTERS.values() for name, _ in steps if name}
    assert names - {name.partition("/")[2] for name, _ in shown()} == set()


@pytest.mark.parametrize(("name", "code"), shown())
def test_the_manual_shows_what_is_rendered(name, code):
    lines = iter((GOLDEN / f"{name}.txt").read_text().splitlines())
    for line in code.splitlines():
        if line.strip() and line.strip() != "...":
            assert line in lines, f"{name}: {line!r} is not there, or not in this place"
