"""Disks that fail, fill up or lack hard links: nothing of a failed put stays behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from granite_storage.backends.local import LocalStorageBackend
from granite_storage.exceptions import BackendError
from granite_storage.testing.suite.concurrency import ConcurrencySuite
from granite_storage.testing.suite.sources import content_of, one_shot
from granite_storage.testing.suite.storing import StoringSuite
from tests.backends.disks import small_disk


@pytest.fixture(params=["unnamed", "named"])
def local(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
    """A backend whose files have no name before they are published, and one whose files have."""
    if request.param == "named":
        monkeypatch.setattr("granite_storage.backends.local.can_link_unnamed", lambda folder: False)
    return LocalStorageBackend(tmp_path / "root")


def _files(backend: LocalStorageBackend) -> list[str]:
    return sorted(str(path.relative_to(backend.root_dir)) for path in backend.root_dir.rglob("*") if path.is_file())


def _fail(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise error

    return fail


def _fail_after(call: str, error: BaseException) -> Callable[..., NoReturn]:
    original = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        original(*args, **kwargs)
        raise error

    return fail


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["EIO", "^C"])
@pytest.mark.parametrize("call", ["write", "fsync", "fchmod", "link"])
@pytest.mark.parametrize("moment", ["instead", "after"])
def test_whatever_fails_leaves_nothing(
    local: LocalStorageBackend, call: str, error: BaseException, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put_bytes(key="docs/kept", content=b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _fail(error) if moment == "instead" else _fail_after(call, error))
        with pytest.raises(BackendError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            local.put_bytes(key="docs/a", content=b"x")
    if isinstance(error, OSError):
        assert raised.value.__cause__ is error
        assert "'docs/a'" in str(raised.value)
    assert _files(local) == ["docs/kept"]


def test_a_failing_sync_of_the_folder_takes_the_object_back(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put_bytes(key="docs/kept", content=b"x")
    fsync = os.fsync

    def only_files(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("docs"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(file)

    monkeypatch.setattr(os, "fsync", only_files)
    with pytest.raises(BackendError):
        local.put_bytes(key="docs/a", content=b"x")
    assert _files(local) == ["docs/kept"]


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path) as (folder, number):
        backend = LocalStorageBackend(folder / "root")
        ref = backend.put_bytes(key="docs/fits", content=content_of(1024**2))
        puts: list[Callable[[], Any]] = [
            lambda: backend.put_bytes(key="docs/a", content=content_of(4 * 1024**2)),
            lambda: backend.put_stream(key="docs/b", stream=one_shot(content_of(4 * 1024**2), 100_000)),
        ]
        if number == errno.ENOSPC:
            backend.put_bytes(key="docs/more", content=content_of(600_000))
            puts.append(lambda: backend.copy(ref, key="docs/c"))
        before = _files(backend)
        for put in puts:
            with pytest.raises(BackendError) as raised:
                put()
            assert isinstance(raised.value.__cause__, OSError)
            assert raised.value.__cause__.errno == number
            assert _files(backend) == before
        assert backend.get(ref) == content_of(1024**2)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
class TestWithoutHardLinks(StoringSuite, ConcurrencySuite):
    @pytest.fixture
    def backend(self, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
        monkeypatch.setattr(os, "link", _fail(OSError(number, os.strerror(number))))
        return LocalStorageBackend(tmp_path / "root", fsync=False)


def test_without_hard_links_a_failing_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _fail(OSError(errno.EPERM, "Operation not permitted")))
    monkeypatch.setattr(os, "rename", _fail(OSError(errno.EIO, "Input/output error")))
    local = LocalStorageBackend(tmp_path / "root")
    with pytest.raises(BackendError, match="Input/output"):
        local.put_bytes(key="docs/a", content=b"x")
    assert _files(local) == []
