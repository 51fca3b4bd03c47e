from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.local import LocalStorageBackend
from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError
from granite_storage.testing.suite.sources import ref_to


@pytest.fixture
def local(tmp_path: Path) -> LocalStorageBackend:
    return LocalStorageBackend(tmp_path / "root", fsync=False)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, with a file in it that no location may reach."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "secret").write_bytes(b"secret")
    (folder / "deep" / "secret").write_bytes(b"secret")
    return folder


def _everything(backend: LocalStorageBackend, location: str) -> list[Callable[[], Any]]:
    ref = ref_to(backend, location)
    return [
        lambda: backend.get(ref),
        lambda: backend.open(ref),
        lambda: backend.stat(ref),
        lambda: backend.exists(ref),
        lambda: backend.delete(ref),
        lambda: backend.local_path(ref).__enter__(),
        lambda: backend.copy(ref, key="copied"),
    ]


@pytest.mark.parametrize("location", ["docs/secret", "docs/deep/secret", "a/docs/secret"])
def test_no_folder_that_is_a_link_is_followed(local: LocalStorageBackend, outside: Path, location: str) -> None:
    (local.root_dir / "a").mkdir()
    (local.root_dir / "docs").symlink_to(outside)
    (local.root_dir / "a" / "docs").symlink_to(outside)
    for act in _everything(local, location):
        with pytest.raises(BackendError, match="symbolic link"):
            act()
    for place in (location, location.replace("secret", "new"), location.replace("secret", "new/folder/x")):
        with pytest.raises(BackendError, match="symbolic link"):
            local.put_bytes(key=place, content=b"x")
    assert sorted(path.name for path in outside.rglob("*")) == ["deep", "secret", "secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_no_object_that_is_a_link_is_followed(local: LocalStorageBackend, outside: Path) -> None:
    (local.root_dir / "secret").symlink_to(outside / "secret")
    (local.root_dir / "dangling").symlink_to(outside / "new")
    for location in ("secret", "dangling"):
        for act in _everything(local, location):
            with pytest.raises(BackendError, match="symbolic link"):
                act()
        with pytest.raises(ObjectExistsError):
            local.put_bytes(key=location, content=b"x")
    assert (outside / "secret").read_bytes() == b"secret"
    assert not (outside / "new").exists()


def test_links_are_not_listed(local: LocalStorageBackend, outside: Path) -> None:
    local.put_bytes(key="docs/a", content=b"x")
    (local.root_dir / "docs" / "link").symlink_to(outside / "secret")
    (local.root_dir / "docs" / "folder").symlink_to(outside)
    (local.root_dir / "linked").symlink_to(outside)
    assert list(local.iter_locations()) == ["docs/a"]
    for prefix in ("linked", "linked/deep", "docs/folder"):
        with pytest.raises(BackendError, match="symbolic link"):
            list(local.iter_locations(prefix))


def test_a_folder_that_becomes_a_link_while_it_is_listed_is_not_followed(
    local: LocalStorageBackend, outside: Path
) -> None:
    for location in ("a/x", "b/x", "c/x"):
        local.put_bytes(key=location, content=b"x")
    listing = local.iter_locations()
    assert next(listing) == "a/x"
    (local.root_dir / "b" / "x").unlink()
    (local.root_dir / "b").rmdir()
    (local.root_dir / "b").symlink_to(outside)
    assert list(listing) == ["c/x"]


def test_incoming_may_not_be_a_link(local: LocalStorageBackend, outside: Path) -> None:
    (local.root_dir / ".incoming").rmdir()
    (local.root_dir / ".incoming").symlink_to(outside)
    with pytest.raises(BackendError):
        local.put_bytes(key="a", content=b"x")
    assert sorted(path.name for path in outside.iterdir()) == ["deep", "secret"]


def test_the_root_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    backend = LocalStorageBackend(tmp_path / "link")
    assert backend.get(backend.put_bytes(key="docs/a", content=b"x")) == b"x"


def test_what_is_no_regular_file_is_no_object(local: LocalStorageBackend) -> None:
    os.mkfifo(local.root_dir / "fifo")  # opening one would wait for a writer
    ref = ref_to(local, "fifo")
    for read in (local.get, local.open, local.stat):
        with pytest.raises(ObjectNotFoundError):
            read(ref)
    local.delete(ref)
    assert (local.root_dir / "fifo").exists()
    assert list(local.iter_locations()) == []


def test_names_that_no_ref_could_hold_are_not_listed(local: LocalStorageBackend) -> None:
    local.put_bytes(key="docs/a", content=b"x")
    folder = os.fsencode(local.root_dir / "docs")
    for name in (b"\xff\xfe", b"new\nline"):
        with open(os.path.join(folder, name), "wb"):
            pass
    os.mkdir(os.path.join(folder, b"\xff"))
    assert list(local.iter_locations()) == ["docs/a"]


def test_what_is_being_uploaded_is_not_listed(local: LocalStorageBackend) -> None:
    (local.root_dir / ".incoming" / "left-by-a-crash").write_bytes(b"half")
    local.put_bytes(key="docs/.incoming/a", content=b"x")
    assert list(local.iter_locations()) == ["docs/.incoming/a"]


def test_a_root_that_went_away_is_an_error_and_not_an_empty_store(local: LocalStorageBackend) -> None:
    (local.root_dir / ".incoming").rmdir()
    local.root_dir.rmdir()
    ref = ref_to(local, "docs/a")
    for act in (*_everything(local, "docs/a"), lambda: list(local.iter_locations("docs"))):
        with pytest.raises(BackendError, match="mounted"):
            act()
    with pytest.raises(BackendError, match="mounted"):
        local.put_bytes(key=ref.location, content=b"x")
    assert not local.root_dir.exists()


def test_a_listing_opens_no_folder_before_where_it_starts(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 29):
        local.put_bytes(key=f"docs/2024/01/{day:02}/a", content=b"x")
    scanned: list[int] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: scanned.append(1) or scandir(folder))
    found = [info.location for info in local.iter_objects("docs", start_after="docs/2024/01/27")]
    assert found == ["docs/2024/01/27/a", "docs/2024/01/28/a"]
    assert len(scanned) == 3 + 2


def test_no_descriptor_stays_open(local: LocalStorageBackend) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ref = local.put_bytes(key="docs/2024/a", content=b"x")
    local.copy(ref, key="docs/2024/b")
    for act in _everything(local, "missing/x"):
        with suppress(ObjectNotFoundError):
            act()
    listing = local.iter_objects()
    next(listing)
    del listing
    local.get(ref)
    local.delete(ref)
    assert len(os.listdir("/proc/self/fd")) == before
