from __future__ import annotations

import os
from pathlib import Path

import pytest

from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.registry import backend_from_url
from granite_storage.exceptions import ConfigurationError, InvalidLocationError, ObjectExistsError
from granite_storage.testing.suite import BackendSuite
from granite_storage.testing.suite.sources import ref_to


@pytest.fixture
def local(tmp_path: Path) -> LocalStorageBackend:
    return LocalStorageBackend(tmp_path / "root")


class TestLocalStorageBackend(BackendSuite):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalStorageBackend:
        return LocalStorageBackend(tmp_path / "root", fsync=False)


def test_the_root_is_made_with_its_parents(tmp_path: Path) -> None:
    backend = LocalStorageBackend(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / ".incoming").is_dir()
    assert list(backend.iter_locations()) == []


def test_a_root_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "root"):
        with pytest.raises(ConfigurationError, match="cannot be made"):
            LocalStorageBackend(root)


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = LocalStorageBackend("root")
    monkeypatch.chdir("/")
    backend.put_bytes(key="a", content=b"x")
    assert (tmp_path / "root" / "a").read_bytes() == b"x"


def test_an_object_is_a_file_at_its_location(local: LocalStorageBackend) -> None:
    ref = local.put_bytes(key="docs/2024/a.txt", content=b"hello")
    assert (local.root_dir / "docs" / "2024" / "a.txt").read_bytes() == b"hello"
    with local.local_path(ref) as path:
        assert path == local.root_dir / "docs" / "2024" / "a.txt"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_files_have_their_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    one, other = LocalStorageBackend(tmp_path / "1"), LocalStorageBackend(tmp_path / "2", mode=0o644)
    one.put_bytes(key="a", content=b"x")
    before = os.umask(umask)
    try:
        refs = [backend.put_bytes(key="b", content=b"x") for backend in (one, other)]
        one.copy(refs[0], key="c")
    finally:
        os.umask(before)
    modes = [
        (backend.root_dir / name).stat().st_mode & 0o7777 for backend, name in ((one, "b"), (one, "c"), (other, "b"))
    ]
    assert modes == [0o640, 0o640, 0o644]


def test_a_mode_that_the_owner_could_not_use_is_refused(tmp_path: Path) -> None:
    for mode in (0o440, 0o1640, -1):
        with pytest.raises(ConfigurationError, match="mode"):
            LocalStorageBackend(tmp_path, mode=mode)


def test_a_url_gives_root_mode_and_fsync(tmp_path: Path) -> None:
    backend = backend_from_url(f"file://{tmp_path}/a%20b?fsync=false&mode=0600")
    assert isinstance(backend, LocalStorageBackend)
    assert (backend.root_dir, backend.fsync, backend.mode) == (tmp_path / "a b", False, 0o600)
    assert repr(backend) == f"LocalStorageBackend('{tmp_path}/a b', fsync=False)"
    assert repr(backend_from_url(f"file://localhost{tmp_path}")) == f"LocalStorageBackend('{tmp_path}')"


@pytest.mark.parametrize("url", ["file://", "file://relative/path", "file://me@/srv", "file:///srv?fsink=1"])
def test_a_url_that_names_no_root_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"file:///|fsink"):
        backend_from_url(url)


def test_a_name_longer_than_the_file_system_takes_is_no_location(local: LocalStorageBackend) -> None:
    for location in ("x" * 300, "x" * 300 + "/a", "docs/" + "\u00e4" * 200):
        with pytest.raises(InvalidLocationError, match="segment"):
            local.put_bytes(key=location, content=b"x")
        assert not local.exists(ref_to(local, location))
        local.delete(ref_to(local, location))
    assert list((local.root_dir / ".incoming").iterdir()) == []


def test_an_object_below_an_object_is_refused(local: LocalStorageBackend) -> None:
    local.put_bytes(key="docs/a", content=b"x")
    for location in ("docs/a/b", "docs/a/b/c", "docs"):
        with pytest.raises(ObjectExistsError):
            local.put_bytes(key=location, content=b"y")
    assert not local.exists(ref_to(local, "docs/a/b"))


def test_a_delete_tidies_no_folder(local: LocalStorageBackend) -> None:
    local.delete(local.put_bytes(key="docs/2024/a", content=b"x"))
    assert (local.root_dir / "docs" / "2024").is_dir()


def test_a_copy_is_a_file_of_its_own(local: LocalStorageBackend) -> None:
    local.copy(local.put_bytes(key="a", content=b"x" * 5000), key="docs/b")
    one, other = (local.root_dir / "a").stat(), (local.root_dir / "docs" / "b").stat()
    assert one.st_ino != other.st_ino
    assert one.st_nlink == other.st_nlink == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on, if there are threads
def test_objects_put_before_a_fork_are_the_childs_too(local: LocalStorageBackend) -> None:
    ref = local.put_bytes(key="docs/parent", content=b"parent")
    child = os.fork()
    if not child:
        try:
            same = local.get(ref) == b"parent"
            local.put_bytes(key="docs/child", content=b"child")
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert list(local.iter_locations("docs")) == ["docs/child", "docs/parent"]
