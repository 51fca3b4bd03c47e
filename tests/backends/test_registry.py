from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from granite_storage.backends import registry
from granite_storage.backends.base import StorageBackend
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url, known_schemes, register_backend
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import ConfigurationError

MODULE = """
from granite_storage.backends.memory import MemoryStorageBackend

class Attic(MemoryStorageBackend):
    @classmethod
    def from_url(cls, url):
        backend = cls()
        backend.shelf = url.read_options(shelf=int)["shelf"]
        return backend

def nothing(url):
    return object()
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of installed packages with a distribution that offers backends; add to its entry points."""
    info = tmp_path / "attic_storage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attic-storage\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[granite_storage.backends]\n"
        "attic = attic_storage_module:Attic.from_url\n"
        "broken = attic_storage_missing:make\n"
        "nothing = attic_storage_module:nothing\n"
        "file = attic_storage_module:Attic.from_url\n"
    )
    (tmp_path / "attic_storage_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("attic_storage_module", None)


@pytest.fixture(autouse=True)
def _no_registrations_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def test_our_schemes_are_known_without_any_entry_point(tmp_path: Path) -> None:
    assert isinstance(backend_from_url(f"file://{tmp_path}"), LocalStorageBackend)
    assert isinstance(backend_from_url("memory://"), MemoryStorageBackend)
    assert isinstance(backend_from_url("s3://bucket"), S3StorageBackend)


def test_an_entry_point_makes_a_backend(distribution: Path) -> None:
    backend = backend_from_url("ATTIC://?shelf=3")
    assert isinstance(backend, MemoryStorageBackend)
    assert backend.shelf == 3  # type: ignore[attr-defined]
    assert "attic" in known_schemes()


def test_an_entry_point_is_loaded_when_its_scheme_is_asked_for(distribution: Path) -> None:
    known_schemes()
    backend_from_url("memory://")
    assert "attic_storage_module" not in sys.modules
    backend_from_url("attic://?shelf=3")
    assert "attic_storage_module" in sys.modules


def test_no_entry_point_takes_over_a_scheme_of_ours(distribution: Path, tmp_path: Path) -> None:
    assert isinstance(backend_from_url(f"file://{tmp_path}/root"), LocalStorageBackend)


def test_an_unknown_scheme_names_those_known_and_the_remedy(distribution: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        backend_from_url("gs://me:HIDDEN@bucket")
    assert "'gs'" in str(raised.value)
    assert "attic, broken, file, memory, nothing, s3" in str(raised.value)
    assert "granite_storage.backends" in str(raised.value)
    assert "HIDDEN" not in str(raised.value)


def test_an_entry_point_that_cannot_be_loaded_is_named(distribution: Path) -> None:
    with pytest.raises(ConfigurationError, match="attic_storage_missing:make of attic-storage") as raised:
        backend_from_url("broken://")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_what_is_no_backend_is_refused(distribution: Path) -> None:
    with pytest.raises(ConfigurationError, match="made a object"):
        backend_from_url("nothing://")


def test_two_distributions_with_one_scheme_are_an_error(distribution: Path) -> None:
    other = distribution / "loft_storage-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: loft-storage\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[granite_storage.backends]\nattic = loft:make\n")
    with pytest.raises(ConfigurationError, match=r"Attic\.from_url of attic-storage, loft:make of loft-storage"):
        backend_from_url("attic://?shelf=3")
    register_backend("attic", lambda url: MemoryStorageBackend())
    assert backend_from_url("attic://")


def test_a_registration_by_hand_comes_first(tmp_path: Path) -> None:
    urls: list[BackendURL] = []

    def make(url: BackendURL) -> StorageBackend:
        urls.append(url)
        return MemoryStorageBackend()

    register_backend("File", make)
    assert isinstance(backend_from_url(f"file://{tmp_path}?x=1"), MemoryStorageBackend)
    assert urls[0].options == {"x": "1"}


def test_boto3_is_imported_by_no_more_than_a_request_to_s3() -> None:
    program = (
        "import sys; from granite_storage.backends import backend_from_url; b = backend_from_url('s3://k:s@bucket'); "
        "repr(b); sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
