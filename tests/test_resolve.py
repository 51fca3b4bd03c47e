"""From a ref to the backend that holds its object."""

from __future__ import annotations

import pytest

from granite_storage import (
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageError,
    StorageManager,
    StoragePolicy,
    StoredObjectRef,
)


@pytest.fixture
def disks(tmp_path):
    return {name: LocalStorageBackend(tmp_path / name, fsync=False) for name in ("here", "there")}


def ref(backend: str, storage_key: str = "") -> StoredObjectRef:
    return StoredObjectRef(storage_key, backend, "docs/a", 1, "")


def test_the_managers_own_name_comes_first(disks):
    local = MemoryStorageBackend()
    manager = StorageManager({**disks, "local": local}, {"documents": StoragePolicy("documents", "here")})
    assert manager.backend_of(ref("there", "documents")) is disks["there"]
    assert manager.backend_of(ref("local", "documents")) is local  # though the policy's backend_name is "local", too


def test_then_the_policys_backend_if_it_is_of_that_kind(disks):
    manager = StorageManager(disks, {"documents": StoragePolicy("documents", "there")})
    assert manager.backend_of(ref("local", "documents")) is disks["there"]
    assert manager.identity(ref("local", "documents")) == ("there", "docs/a")


def test_then_the_only_backend_of_that_kind(disks):
    backends = {"memory": MemoryStorageBackend(), "disk": disks["here"]}
    manager = StorageManager(backends, {"documents": StoragePolicy("documents", "memory")})
    assert manager.backend_of(ref("local", "documents")) is disks["here"]
    assert manager.backend_of(ref("local", "a policy that is gone")) is disks["here"]


def test_several_of_that_kind_are_an_error_that_names_them(disks):
    manager = StorageManager(disks, {})
    with pytest.raises(
        StorageError, match=r"Unknown backend: 'local' could be any of 'here', 'there'; give the policy 'old'"
    ):
        manager.backend_of(ref("local", "old"))


def test_none_of_that_kind_is_an_error_that_names_the_backends(disks):
    manager = StorageManager(disks, {"documents": StoragePolicy("documents", "here")})
    with pytest.raises(StorageError, match="Unknown backend: 's3'; the manager has 'here', 'there'"):
        manager.backend_of(ref("s3", "documents"))
    with pytest.raises(StorageError, match="the manager has none"):
        StorageManager({}, {}).backend_of(ref("s3"))


def test_two_names_of_one_object_are_the_same_identity(disks):
    manager = StorageManager(disks, {"documents": StoragePolicy("documents", "here")})
    assert manager.identity(ref("local", "documents")) == manager.identity(ref("here", "documents"))
    assert manager.identity(ref("here")) != manager.identity(ref("there"))
