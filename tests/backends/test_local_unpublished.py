from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.local_unpublished import can_link_unnamed
from granite_storage.testing.suite.sources import content_of, then


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder on a file system that makes files without names; tried here by itself, as open(2) shows it."""
    try:
        file = os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE)
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            os.link(f"/proc/self/fd/{file}", "tried", dst_dir_fd=folder, follow_symlinks=True)
            (tmp_path / "tried").unlink()
        finally:
            os.close(folder)
            os.close(file)
    except (AttributeError, OSError):
        pytest.skip("no files without names here: it takes Linux, /proc and a file system with O_TMPFILE")
    return tmp_path


def _put(backend: LocalStorageBackend) -> list[str]:
    """Put an object; the names below ``.incoming`` when all of it was read."""
    seen: list[str] = []
    incoming = backend.root_dir / ".incoming"
    ref = backend.put_stream(key="docs/a", stream=then(content_of(10_000), lambda: seen.extend(os.listdir(incoming))))
    assert backend.get(ref) == content_of(10_000)
    assert os.listdir(incoming) == []
    return seen


def test_what_can_be_is_found_out_and_leaves_nothing(folder: Path) -> None:
    assert can_link_unnamed(str(folder))
    assert os.listdir(folder) == []


def test_a_file_without_a_name_is_nowhere_until_it_is_published(folder: Path) -> None:
    assert _put(LocalStorageBackend(folder)) == []


def test_a_file_system_without_such_files_gets_a_name_below_incoming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    assert not can_link_unnamed(str(tmp_path))
    assert len(_put(LocalStorageBackend(tmp_path))) == 1


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR])
def test_a_file_system_that_was_mounted_since_is_served_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    backend, opens = LocalStorageBackend(folder), os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, os.strerror(number))
        return opens(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert len(_put(backend)) == 1


def test_without_proc_files_have_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def no_proc(source: str, *args: Any, **options: Any) -> None:
        link(source.replace("/proc/", "/proc-is-not-mounted/"), *args, **options)

    monkeypatch.setattr(os, "link", no_proc)
    assert not can_link_unnamed(str(folder))
    assert len(_put(LocalStorageBackend(folder))) == 1


@pytest.mark.parametrize("unnamed", [True, False])
def test_the_mode_is_as_given_whatever_the_umask(folder: Path, unnamed: bool) -> None:
    for mode, umask in ((0o640, 0o777), (0o666, 0o022), (0o600, 0)):
        backend = LocalStorageBackend(folder / f"{mode:o}", mode=mode)
        backend._unnamed = unnamed
        (backend.root_dir / "docs").mkdir()
        before = os.umask(umask)
        try:
            backend.put_bytes(key="docs/a", content=b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((backend.root_dir / "docs/a").stat().st_mode) == mode
