"""What cut-off puts leave is removed, and nothing else: no fresh file, no object, nothing behind a link."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.exceptions import BackendError
from granite_storage.testing.suite.sources import then

BEFORE = datetime(2024, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def local(tmp_path: Path) -> LocalStorageBackend:
    return LocalStorageBackend(tmp_path / "root")


def _unfinished(backend: LocalStorageBackend, name: str, modified: datetime) -> Path:
    path = backend.root_dir / ".incoming" / name
    path.write_bytes(b"half")
    os.utime(path, (modified.timestamp(), modified.timestamp()))
    return path


def _folders(backend: LocalStorageBackend, *paths: str) -> None:
    for path in paths:
        (backend.root_dir / path).mkdir(parents=True)


def _left(backend: LocalStorageBackend) -> list[str]:
    found = (str(path.relative_to(backend.root_dir)) for path in backend.root_dir.rglob("*"))
    return sorted(path for path in found if path != ".incoming")


def test_the_ability_is_declared(local: LocalStorageBackend) -> None:
    assert has_ability(local, Ability.LEFTOVERS)


def test_unfinished_files_go_by_the_time_they_were_last_written_to(local: LocalStorageBackend) -> None:
    old = _unfinished(local, "8f3a", BEFORE - timedelta(seconds=1))
    fresh = _unfinished(local, "8f3b", BEFORE + timedelta(seconds=1))
    assert local.remove_leftovers(BEFORE, dry_run=True) == 1
    assert old.exists()
    assert local.remove_leftovers(BEFORE) == 1
    assert not old.exists()
    assert fresh.exists()
    assert local.remove_leftovers(BEFORE) == 0


def test_the_time_may_be_told_in_any_zone(local: LocalStorageBackend) -> None:
    _unfinished(local, "8f3a", BEFORE - timedelta(seconds=1))
    _folders(local, "docs/2024/03/08", "docs/2024/03/09")
    east = BEFORE.astimezone(timezone(timedelta(hours=13)))  # where it is the 10th
    assert local.remove_leftovers(east) == 2
    assert _left(local) == ["docs", "docs/2024", "docs/2024/03", "docs/2024/03/09"]


def test_links_and_folders_in_incoming_are_left_alone(local: LocalStorageBackend, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    os.utime(elsewhere, (0, 0))
    link = local.root_dir / ".incoming" / "link"
    link.symlink_to(elsewhere)
    os.utime(link, (0, 0), follow_symlinks=False)
    folder = local.root_dir / ".incoming" / "folder"
    folder.mkdir()
    os.utime(folder, (0, 0))
    assert local.remove_leftovers(BEFORE) == 0
    assert elsewhere.read_bytes() == b"mine"
    assert link.is_symlink()
    assert folder.is_dir()


def test_incoming_itself_is_not_followed_if_it_is_a_link(local: LocalStorageBackend, tmp_path: Path) -> None:
    (local.root_dir / ".incoming").rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "old").write_bytes(b"mine")
    os.utime(elsewhere / "old", (0, 0))
    (local.root_dir / ".incoming").symlink_to(elsewhere)
    with pytest.raises(BackendError, match=r"clearing '\.incoming'"):
        local.remove_leftovers(BEFORE)
    assert (elsewhere / "old").exists()


def test_a_root_without_incoming_has_nothing_unfinished(local: LocalStorageBackend) -> None:
    (local.root_dir / ".incoming").rmdir()
    assert local.remove_leftovers(BEFORE) == 0


def test_empty_folders_of_days_that_are_over_go_and_then_their_months_and_years(local: LocalStorageBackend) -> None:
    _folders(local, "docs/2023/12/31", "docs/2024/02/01", "docs/2024/02/02", "docs/2024/03/08", "docs/2024/03/09")
    _folders(local, "a/b/2023/01/01", "docs/2024/03/10", "docs/2024/04/01", "docs/2025/01/01")
    local.put_bytes(key="docs/2024/02/02/x", content=b"x")
    every = _left(local)
    removed = ["docs/2023/12/31", "docs/2023/12", "docs/2023", "docs/2024/02/01", "docs/2024/03/08"]
    removed += ["a/b/2023/01/01", "a/b/2023/01", "a/b/2023"]
    assert local.remove_leftovers(BEFORE, dry_run=True) == len(removed)
    assert _left(local) == every
    assert local.remove_leftovers(BEFORE) == len(removed)
    assert _left(local) == sorted(set(every) - set(removed))
    assert local.remove_leftovers(BEFORE) == 0


@pytest.mark.parametrize(
    "path",
    ["docs", "2023/01/01", "docs/2023/13/01", "docs/2023/01/32", "docs/2023/1/1", "docs/2023-01-01", "docs/1/01/01"],
)
def test_folders_that_are_no_days_stay(local: LocalStorageBackend, path: str) -> None:
    _folders(local, path)
    every = _left(local)
    assert local.remove_leftovers(BEFORE) == 0
    assert _left(local) == every


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_a_day_that_holds_anything_stays(local: LocalStorageBackend, what: str, tmp_path: Path) -> None:
    _folders(local, "docs/2023/01/01")
    inside = local.root_dir / "docs/2023/01/01/x"
    {"file": inside.touch, "folder": inside.mkdir, "link": lambda: inside.symlink_to(tmp_path)}[what]()
    assert local.remove_leftovers(BEFORE, dry_run=True) == local.remove_leftovers(BEFORE) == 0
    assert os.path.lexists(inside)


@pytest.mark.parametrize("link", ["docs", "docs/2023", "docs/2023/01", "docs/2023/01/02"])
def test_no_link_in_a_folder_is_followed_or_removed(local: LocalStorageBackend, link: str, tmp_path: Path) -> None:
    day = tmp_path / "elsewhere/2023/01/01"
    day.mkdir(parents=True)
    target = {"docs": "", "docs/2023": "2023", "docs/2023/01": "2023/01", "docs/2023/01/02": "2023/01/01"}[link]
    (local.root_dir / link).parent.mkdir(parents=True, exist_ok=True)
    (local.root_dir / link).symlink_to(tmp_path / "elsewhere" / target)
    assert local.remove_leftovers(BEFORE, dry_run=True) == local.remove_leftovers(BEFORE) == 0
    assert day.is_dir()
    assert (local.root_dir / link).is_symlink()


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    local: LocalStorageBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = tmp_path / "elsewhere/01/01"
    day.mkdir(parents=True)
    _folders(local, "docs/2023")
    original = os.open

    def swap(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "2023":
            (local.root_dir / "docs/2023").rmdir()
            (local.root_dir / "docs/2023").symlink_to(tmp_path / "elsewhere")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", swap)
    assert local.remove_leftovers(BEFORE) == 0
    assert day.is_dir()


def test_an_object_put_at_the_last_moment_keeps_its_folder(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _folders(local, "docs/2023/01/01")
    original = os.rmdir

    def put_first(name: Any, **kwargs: Any) -> None:
        if name == "01" and not local.exists(ref):
            local.put_bytes(key="docs/2023/01/01/x", content=b"x")
        original(name, **kwargs)

    ref = local.put_bytes(key="docs/2023/01/01/x", content=b"x")
    local.delete(ref)
    monkeypatch.setattr(os, "rmdir", put_first)
    assert local.remove_leftovers(BEFORE) == 0
    assert local.get(ref) == b"x"


def test_two_that_remove_at_once_do_not_disturb_each_other(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _folders(local, "docs/2023/01/01", "docs/2023/01/02")
    _unfinished(local, "8f3a", BEFORE - timedelta(days=1))
    counts: list[int] = []
    original = os.open

    def other_first(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "02":
            monkeypatch.setattr(os, "open", original)
            counts.append(local.remove_leftovers(BEFORE))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", other_first)
    counts.append(local.remove_leftovers(BEFORE))
    assert sum(counts) == 5
    assert _left(local) == ["docs"]


def test_a_put_into_a_folder_that_was_removed_makes_it_anew(local: LocalStorageBackend) -> None:
    ref = local.put_bytes(key="docs/2023/01/01/x", content=b"x")
    local.delete(ref)
    assert local.remove_leftovers(BEFORE) == 3
    local.put_bytes(key="docs/2023/01/01/x", content=b"y")
    assert local.get(ref) == b"y"


def test_a_put_whose_folder_is_removed_meanwhile_makes_it_anew(local: LocalStorageBackend) -> None:
    removed: list[int] = []
    stream = then(b"y", lambda: removed.append(local.remove_leftovers(BEFORE)))
    ref = local.put_stream(key="docs/2023/01/01/x", stream=stream)
    assert removed[0] == 3
    assert local.get(ref) == b"y"


def test_a_disk_that_fails_is_a_backend_error(local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    _folders(local, "docs/2023/01/01")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rmdir", fail)
    with pytest.raises(BackendError, match="looking for empty folders in 'docs/2023/01/'"):
        local.remove_leftovers(BEFORE)


def test_a_folder_that_may_not_be_entered_stays(local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    _folders(local, "docs/2023/01/01", "lost+found")
    original = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert local.remove_leftovers(BEFORE) == 3
    assert _left(local) == ["docs", "lost+found"]


def test_only_the_folders_that_are_named_are_looked_into(local: LocalStorageBackend) -> None:
    _folders(local, "a/docs/2020/01/31", "a/docs-old/2020/01/31", "theirs/2020/01/31")
    assert local.remove_leftovers(BEFORE, prefixes=["a/docs"], dry_run=True) == 3
    assert local.remove_leftovers(BEFORE, prefixes=["a/docs"]) == 3
    assert (local.root_dir / "a/docs-old/2020/01/31").is_dir() and (local.root_dir / "theirs/2020/01/31").is_dir()
    assert not (local.root_dir / "a/docs/2020").exists()
