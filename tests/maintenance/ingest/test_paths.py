"""Columns of paths, up and back, on every database."""

from __future__ import annotations

import os

import pytest
from sqlalchemy.orm import Session


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "old files"
    (folder / "2020" / "05").mkdir(parents=True)
    (folder / "2020" / "05" / "a.txt").write_bytes(b"first")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7")
    return folder


def test_files_are_taken_in_and_the_paths_come_back(archive, root):
    archive.add({"path": "2020/05/a.txt"}, {"path": f"{root}/b.pdf"}, {"path": ""}, {"path": None})
    report = archive.ingest("path", kind="paths", root=root)
    assert (report.total, report.rows) == (2, 2)
    assert archive.files() == {1: b"first", 2: b"%PDF-1.7", 3: None, 4: None}
    assert (archive.file(1).filename, archive.file(2).content_type) == ("a.txt", "application/pdf")
    assert (root / "b.pdf").exists()
    report = archive.put_back("path", kind="paths", root=root)
    assert (report.rows, report.kept) == (2, 2)
    assert archive.old("path") == {1: "2020/05/a.txt", 2: f"{root}/b.pdf", 3: "", 4: None}
    assert sorted(one.name for one in root.rglob("*") if one.is_file()) == ["a.txt", "b.pdf"]


@pytest.mark.parametrize("absolute", [False, True])
def test_files_that_are_gone_changed_or_new_are_written_on_the_way_back(archive, root, absolute):
    before = f"{root}/" if absolute else ""
    archive.add({"path": before + "2020/05/a.txt"}, {"path": before + "b.pdf"}, {"path": None})
    archive.ingest("path", kind="paths", root=root)
    with Session(archive.engine) as session:
        session.get_one(archive.Document, 3).report = b"new"
        session.commit()
    (root / "2020" / "05" / "a.txt").unlink()
    (root / "b.pdf").write_bytes(b"another file's content")
    archive.put_back("path", kind="paths", root=root)
    paths = archive.old("path")
    assert paths[1] == before + "2020/05/a.txt"
    assert [(root / paths[number]).read_bytes() for number in (1, 2, 3)] == [b"first", b"%PDF-1.7", b"new"]
    assert (root / "b.pdf").read_bytes() == b"another file's content"
    assert {os.path.isabs(path) for path in paths.values()} == {absolute}
    assert not list(root.rglob("*.part"))


@pytest.mark.parametrize(
    "path", ["../outside.txt", "2020/../../outside.txt", "/etc/hostname", "../b.pdf", "missing.txt", "2020", "out"]
)
def test_a_path_that_names_no_file_below_the_root_is_refused_by_row(archive, root, path):
    (root.parent / "outside.txt").write_bytes(b"secret")
    (root / "out").symlink_to(root.parent / "outside.txt")
    archive.add({"path": path}, {"path": "b.pdf"})
    report = archive.ingest("path", kind="paths", root=root, on_error="skip")
    assert [failure.key for failure in report.failures] == [(1,)]
    assert "its path" in str(report.failures[0].error)
    assert archive.files() == {1: None, 2: b"%PDF-1.7"}


def test_a_path_through_a_link_is_refused(archive, root):
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "c.txt").write_bytes(b"secret")
    (root / "link").symlink_to(root.parent / "elsewhere")
    archive.add({"path": "link/c.txt"})
    report = archive.ingest("path", kind="paths", root=root, on_error="skip")
    assert "symbolic link" in str(report.failures[0])
