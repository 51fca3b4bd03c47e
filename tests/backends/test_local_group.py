from __future__ import annotations

import contextvars
import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from granite_storage.backends import local_group
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.exceptions import BackendError
from granite_storage.testing.suite.sources import content_of, then


@pytest.fixture(params=["unnamed", "named"])
def local(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
    """A backend whose files have no name before they are published, and one whose files have."""
    if request.param == "named":
        monkeypatch.setattr("granite_storage.backends.local.can_link_unnamed", lambda folder: False)
    return LocalStorageBackend(tmp_path / "root")


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
    """A backend whose files have names before they are published, which can be taken away."""
    monkeypatch.setattr("granite_storage.backends.local.can_link_unnamed", lambda folder: False)
    return LocalStorageBackend(tmp_path / "root")


@pytest.fixture
def synced(local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths below the root that were synced, in order; of a file, only the folder that it was in."""
    seen: list[str] = []
    fsync = os.fsync

    def noted(file: int) -> None:
        path = os.path.relpath(os.readlink(f"/proc/self/fd/{file}"), local.root_dir)
        seen.append(".incoming" if path.startswith(".incoming/") else path)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    return seen


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    """No group leaves a descriptor open."""
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_group_syncs_each_file_at_once_and_each_folder_at_its_end(
    local: LocalStorageBackend, synced: list[str]
) -> None:
    local.put_bytes(key="docs/a", content=b"x")
    local.put_bytes(key="more/a", content=b"x")
    synced.clear()
    with local.group():
        for number in range(3):
            ref = local.put_bytes(key=f"docs/{number}", content=b"x")
        local.copy(ref, key="more/copy")
        assert synced == [".incoming"] * 4
    assert synced[4:] == ["docs", "more"]


def test_a_new_folder_is_synced_into_the_one_above_it_before_the_group_ends(
    local: LocalStorageBackend, synced: list[str]
) -> None:
    with local.group():
        local.put_bytes(key="docs/2024/a", content=b"x")
        assert synced == [".", "docs", ".incoming"]
    assert synced[3:] == ["docs/2024"]


def test_a_group_without_fsync_syncs_nothing(local: LocalStorageBackend, synced: list[str]) -> None:
    backend = LocalStorageBackend(local.root_dir, fsync=False)
    with backend.group():
        backend.put_bytes(key="docs/a", content=b"x")
    assert synced == []


def test_a_group_is_no_group_of_a_backend_that_syncs_otherwise(local: LocalStorageBackend, synced: list[str]) -> None:
    with LocalStorageBackend(local.root_dir, fsync=False).group():
        local.put_bytes(key="a", content=b"x")
        assert synced == [".incoming", "."]


def test_other_puts_meanwhile_sync_their_folder_themselves(local: LocalStorageBackend, synced: list[str]) -> None:
    with local.group(), ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: local.put_bytes(key="a", content=b"x")).result()  # in a context of its own
        assert synced == [".incoming", "."]
    assert len(synced) == 2


def test_a_put_that_the_group_did_not_wait_for_syncs_its_folder_itself(
    local: LocalStorageBackend, synced: list[str]
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert ended.wait(30)

    with ThreadPoolExecutor(1) as pool:
        with local.group():
            context = contextvars.copy_context()
            late = pool.submit(
                context.run, lambda: local.put_stream(key="docs/late", stream=then(content_of(10_000), wait))
            )
            assert begun.wait(30)
        synced.clear()
        ended.set()
        assert local.get(late.result()) == content_of(10_000)
    assert synced == [".incoming", "docs"]
    context.run(local.put_bytes, key="docs/later", content=b"x")
    assert synced == [".incoming", "docs"] * 2


def test_an_inner_group_ends_by_itself(local: LocalStorageBackend, synced: list[str]) -> None:
    with local.group():
        with local.group():
            local.put_bytes(key="a", content=b"x")
        assert synced == [".incoming", "."]
        local.put_bytes(key="b", content=b"x")
        assert synced[2:] == [".incoming"]
    assert synced[3:] == ["."]


def test_a_folder_that_cannot_be_synced_fails_the_end_and_the_objects_stay(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put_bytes(key="docs/kept", content=b"x")
    error, fsync = OSError(errno.EIO, "Input/output error"), os.fsync

    def only_files(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("docs"):
            raise error
        fsync(file)

    monkeypatch.setattr(os, "fsync", only_files)
    with (
        pytest.raises(BackendError, match=r"syncing the folder of 'docs/a' .*Input/output error") as raised,
        local.group(),
    ):
        ref = local.put_bytes(key="docs/a", content=b"x")
    assert raised.value.__cause__ is error
    assert local.exists(ref)  # the caller's to delete


def test_an_error_of_the_block_comes_out_as_it_is_and_nothing_is_synced_for_it(
    local: LocalStorageBackend, synced: list[str]
) -> None:
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as raised, local.group():
        local.put_bytes(key="a", content=b"x")
        raise error
    assert raised.value is error
    assert synced == [".incoming"]
    local.put_bytes(key="b", content=b"x")
    assert synced[1:] == [".incoming", "."]


def test_a_folder_that_is_removed_meanwhile_is_made_again(local: LocalStorageBackend, synced: list[str]) -> None:
    with local.group():
        local.delete(local.put_bytes(key="docs/2024/a", content=b"x"))
        (local.root_dir / "docs/2024").rmdir()
        (local.root_dir / "docs").rmdir()
        ref = local.put_bytes(key="docs/2024/b", content=b"x")
        local.put_bytes(key="docs/2024/c", content=b"x")
        synced.clear()
    assert synced == ["docs/2024"]
    assert local.get(ref) == b"x"
    assert list(local.iter_locations()) == ["docs/2024/b", "docs/2024/c"]


def test_a_folder_that_became_a_link_meanwhile_is_not_followed(local: LocalStorageBackend, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with local.group():
        local.delete(local.put_bytes(key="docs/a", content=b"x"))
        (local.root_dir / "docs").rmdir()
        (local.root_dir / "docs").symlink_to(tmp_path / "outside")
        with pytest.raises(BackendError, match="symbolic link"):
            local.put_bytes(key="docs/b", content=b"x")
    assert os.listdir(tmp_path / "outside") == []
    assert os.listdir(local.root_dir / ".incoming") == []


def test_incoming_is_made_again_if_it_is_removed_meanwhile(local: LocalStorageBackend) -> None:
    with local.group():
        local.put_bytes(key="a", content=b"x")
        (local.root_dir / ".incoming").rmdir()
        assert local.get(local.put_bytes(key="b", content=b"x")) == b"x"
    assert os.listdir(local.root_dir / ".incoming") == []


def test_a_group_keeps_a_bounded_number_of_folders_open(
    local: LocalStorageBackend, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_group, "MAX_FOLDERS", 5)
    before = len(os.listdir("/proc/self/fd"))
    with local.group():
        for number in range(20):
            local.put_bytes(key=f"{number}/a", content=b"x")
        assert len(os.listdir("/proc/self/fd")) - before <= 5
        assert "0" not in synced
        assert "19" in synced
    assert {str(number) for number in range(20)} <= set(synced)


def test_threads_share_the_folders_of_a_group(local: LocalStorageBackend, synced: list[str]) -> None:
    with local.group(), ThreadPoolExecutor(8) as pool:
        puts = [
            pool.submit(contextvars.copy_context().run, lambda n=n: local.put_bytes(key=f"docs/{n}", content=b"x"))
            for n in range(40)
        ]
        refs = [put.result() for put in puts]
    assert synced == [".", *[".incoming"] * 40, "docs"]
    assert sorted(local.iter_locations()) == sorted(ref.location for ref in refs)


def test_a_put_that_fails_in_a_group_leaves_the_others_to_be_synced(
    named: LocalStorageBackend, synced: list[str]
) -> None:
    def take() -> None:
        for path in (named.root_dir / ".incoming").iterdir():
            path.unlink()

    with named.group():
        named.put_bytes(key="docs/a", content=b"x")
        with pytest.raises(BackendError, match="No such file"):
            named.put_stream(key="docs/b", stream=then(b"content", take))
        synced.clear()
    assert synced == ["docs"]


def test_a_group_leaves_the_context_as_it_was(local: LocalStorageBackend) -> None:
    before = dict(contextvars.copy_context())
    with local.group():
        local.put_bytes(key="a", content=b"x")
    assert dict(contextvars.copy_context()) == before
