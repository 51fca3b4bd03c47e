"""Whose objects are these: the marks at a prefix, and what a manager may do where another owner's mark is."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from granite_storage import (
    ConfigurationError,
    MemoryStorageBackend,
    ObjectExistsError,
    StorageBackend,
    StorageManager,
    StoragePolicy,
    StoredObjectRef,
    backend_from_url,
)
from granite_storage.deletion import delete_objects
from granite_storage.exceptions import OwnershipError
from granite_storage.ownership import Ownership, is_mark

POLICY = StoragePolicy("documents", "main", key_prefix="docs")
OWNER_MARK = "docs/.granite-storage/owner"
OLD_ARGUMENTS: dict[str, Any] = {
    "storage_key": "documents",
    "model_name": "document",
    "entity_id": 1,
    "field_name": "report",
}


class CountingBackend(MemoryStorageBackend):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def exists(self, ref: StoredObjectRef) -> bool:
        self.asked.append(ref.location)
        return super().exists(ref)

    def get(self, ref: StoredObjectRef) -> bytes:
        self.asked.append(ref.location)
        return super().get(ref)


class MinimalBackend:
    """A third party's backend, written to granite-storage 0.1.0's protocol and nothing else."""

    backend_name = "minimal"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_bytes(self, *, key: str, content: bytes, **about: Any) -> StoredObjectRef:
        self.objects[key] = content
        return StoredObjectRef("", "minimal", key, len(content), "")

    def put_stream(self, *, key: str, stream: BinaryIO, **about: Any) -> StoredObjectRef:
        return self.put_bytes(key=key, content=stream.read())

    def get(self, ref: StoredObjectRef) -> bytes:
        return self.objects[ref.location]

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        return io.BytesIO(self.get(ref))

    def delete(self, ref: StoredObjectRef) -> None:
        self.objects.pop(ref.location, None)

    def exists(self, ref: StoredObjectRef) -> bool:
        return ref.location in self.objects

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return iter([location for location in self.objects if location.startswith(prefix or "")])


@pytest.fixture(params=["memory", "local", "s3", "minimal"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty backend of each kind, a third party's too."""
    if request.param == "minimal":
        return MinimalBackend()
    return _ours(request, tmp_path)


@pytest.fixture(params=["memory", "local", "s3"])
def our_backend(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty backend of each kind that comes with the library."""
    return _ours(request, tmp_path)


def _ours(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    if request.param == "s3":
        return backend_from_url(request.getfixturevalue("s3_bucket").url("production"))
    return backend_from_url("memory://" if request.param == "memory" else f"file://{tmp_path}/stored?fsync=false")


def manager_of(backend: StorageBackend, owner: str | None = None, **policies: StoragePolicy) -> StorageManager:
    return StorageManager({"main": backend}, policies or {"documents": POLICY}, owner=owner)


def ref_at(backend: StorageBackend, location: str) -> StoredObjectRef:
    return StoredObjectRef("", backend.backend_name, location, 0, "")


# Owners


def test_the_first_manager_with_an_owner_marks_the_prefix_and_others_with_it_go_on(backend: StorageBackend) -> None:
    stored = manager_of(backend, "shop-prod").store("documents", b"content")
    assert backend.exists(ref_at(backend, OWNER_MARK))
    again = manager_of(backend, "shop-prod")
    again.store("documents", b"more")
    again.delete(stored.ref)
    assert not again.exists(stored.ref)


WRITES: dict[str, Callable[[StorageManager, StoredObjectRef], Any]] = {
    "store": lambda manager, ref: manager.store("documents", b"x"),
    "put_bytes": lambda manager, ref: manager.put_bytes(**OLD_ARGUMENTS, content=b"x"),
    "put_stream": lambda manager, ref: manager.put_stream(**OLD_ARGUMENTS, stream=io.BytesIO(b"x")),
    "copy": lambda manager, ref: manager.copy("documents", manager.file(ref)),
    "delete": lambda manager, ref: manager.delete(ref),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("other", ["shop-staging", None])
def test_another_owner_or_none_may_read_and_neither_store_nor_delete(
    backend: StorageBackend, write: str, other: str | None
) -> None:
    stored = manager_of(backend, "shop-prod").store("documents", b"content")
    before = sorted(backend.iter_locations("docs"))
    staging = manager_of(backend, other)
    with pytest.raises(OwnershipError) as caught:
        WRITES[write](staging, stored.ref)
    told = str(caught.value)
    assert "'docs'" in told and "'shop-prod'" in told and "StorageManager(owner=" in told
    assert (repr(other) if other else "for none") in told
    assert sorted(backend.iter_locations("docs")) == before
    assert staging.get(stored.ref) == b"content"
    assert staging.file(stored.ref.to_dict()).read() == b"content"
    assert staging.exists(stored.ref)


@pytest.mark.parametrize("other", ["shop-staging", None])
def test_what_is_another_owners_is_given_back_as_a_failure_when_many_are_deleted(other: str | None) -> None:
    backend = MemoryStorageBackend()
    theirs = manager_of(backend, "shop-prod").store("documents", b"theirs")
    both = {"documents": POLICY, "notes": StoragePolicy("notes", "main")}
    ours = manager_of(backend, other, **both).store("notes", b"ours")
    (failure,) = delete_objects(manager_of(backend, other, **both), [theirs.ref, ours.ref])
    assert failure.ref == theirs.ref
    assert isinstance(failure.error, OwnershipError)
    assert list(backend.iter_locations()) == [theirs.location]


def test_a_prefix_that_nobody_owns_is_everybodys(backend: StorageBackend) -> None:
    stored = manager_of(backend).store("documents", b"content")
    manager_of(backend).delete(stored.ref)
    assert not backend.exists(ref_at(backend, OWNER_MARK))


def test_prefixes_are_owned_one_by_one() -> None:
    backend = MemoryStorageBackend()
    manager_of(backend, "shop").store("documents", b"content")
    beside = StoragePolicy("documents", "main", key_prefix="docs-old")
    manager_of(backend, "blog", documents=beside).store("documents", b"content")
    assert sorted(backend.iter_locations("docs-old/.granite-storage")) == ["docs-old/.granite-storage/owner"]


def test_an_object_outside_of_all_prefixes_is_deleted_as_before() -> None:
    backend = MemoryStorageBackend()
    manager_of(backend, "shop").store("documents", b"content")
    old = backend.put_bytes(key="document/42-deadbeef.txt", content=b"of 0.1.0")
    manager_of(backend, "blog").delete(old)
    assert not backend.exists(old)


def test_another_process_that_marks_first_wins() -> None:
    class Raced(MemoryStorageBackend):
        def put_bytes(self, **arguments: Any) -> StoredObjectRef:
            if arguments["key"] == OWNER_MARK and not self.exists(ref_at(self, OWNER_MARK)):
                super().put_bytes(**{**arguments, "content": b'{"owner": "first"}'})
                raise ObjectExistsError("there is one already")
            return super().put_bytes(**arguments)

    with pytest.raises(OwnershipError, match="'first'"):
        manager_of(Raced(), "second").store("documents", b"content")


@pytest.mark.parametrize("owner", ["", 5, b"shop"])
def test_an_owner_is_a_name(owner: Any) -> None:
    with pytest.raises(ConfigurationError, match="shop-prod"):
        manager_of(MemoryStorageBackend(), owner)


# How often it is looked at


@pytest.mark.parametrize("owner", ["shop", None])
def test_a_prefix_is_looked_at_once_whatever_is_stored_and_deleted(owner: str | None) -> None:
    backend = CountingBackend()
    manager_of(backend, owner).store("documents", b"marks it")
    backend.asked.clear()
    manager = manager_of(backend, owner, documents=POLICY, notes=StoragePolicy("notes", "main"))
    stored = [manager.store("documents", b"content") for _ in range(3)]
    for file in stored:
        manager.delete(file.ref)
    assert backend.asked == ([OWNER_MARK] * 2 if owner else [OWNER_MARK])  # is it there, and what does it say
    backend.asked.clear()
    manager.store("notes", b"another prefix")
    assert set(backend.asked) == {"notes/.granite-storage/owner"}


def test_the_same_prefix_of_another_backend_is_another() -> None:
    first, second = CountingBackend(), CountingBackend()
    policies = {"a": StoragePolicy("a", "first", key_prefix="docs"), "b": StoragePolicy("b", "second", None, "docs")}
    manager = StorageManager({"first": first, "second": second}, policies)
    manager.store("a", b"content")
    assert second.asked == []
    manager.store("b", b"content")
    assert second.asked == [OWNER_MARK]


def test_reading_looks_at_no_mark() -> None:
    backend = CountingBackend()
    stored = manager_of(backend, "shop").store("documents", b"content")
    backend.asked.clear()
    manager_of(backend, "blog").get(stored.ref)
    assert backend.asked == [stored.location]


# Databases, and changing marks


def test_databases_are_marked_beside_each_other(backend: StorageBackend) -> None:
    ownership = Ownership()
    ownership.mark(backend, POLICY, "one")
    ownership.mark(backend, POLICY, "two")
    ownership.mark(backend, POLICY, "one")
    ownership.mark(backend, StoragePolicy("docs-old", "main"), "three")
    assert Ownership.databases(backend, "docs") == {"one", "two"}
    assert Ownership.databases(backend, "covers") == set()


def test_taking_puts_an_owner_and_databases_in_the_place_of_others(backend: StorageBackend) -> None:
    old = Ownership("old")
    old.check(backend, POLICY)
    old.mark(backend, POLICY, "one")
    new = Ownership("new")
    new.take(backend, POLICY, {"two"})
    new.check(backend, POLICY)
    assert Ownership.databases(backend, "docs") == {"two"}
    with pytest.raises(OwnershipError, match="'new'"):
        Ownership("old").check(backend, POLICY)


def test_taking_for_nobody_removes_the_owner(backend: StorageBackend) -> None:
    Ownership("old").check(backend, POLICY)
    Ownership().take(backend, POLICY, set())
    Ownership().check(backend, POLICY)
    assert not backend.exists(ref_at(backend, OWNER_MARK))


def test_taking_is_seen_by_the_manager_that_takes() -> None:
    backend = MemoryStorageBackend()
    manager = manager_of(backend, "new")
    Ownership("old").check(backend, POLICY)
    with pytest.raises(OwnershipError):
        manager.store("documents", b"content")
    manager.ownership.take(backend, POLICY, set())
    assert manager.store("documents", b"content").exists()


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b"{}", b'{"owner": null}', b'{"owner": 5}', b"\xff\xfe"])
def test_a_mark_that_cannot_be_read_refuses_until_it_is_taken(backend: StorageBackend, content: bytes) -> None:
    backend.put_bytes(key=OWNER_MARK, content=content)
    for owner in ("shop", None):
        with pytest.raises(OwnershipError, match=r"'docs/.granite-storage/owner' cannot be read.*take_ownership"):
            Ownership(owner).check(backend, POLICY)
    taker = Ownership("shop")
    taker.take(backend, POLICY, set())
    taker.check(backend, POLICY)
    Ownership("shop").check(backend, POLICY)


# Listings


@pytest.mark.parametrize("folder", [None, "docs", "docs/2026"])
def test_listings_hide_marks(our_backend: StorageBackend, folder: str | None) -> None:
    ownership = Ownership("shop")
    ownership.check(our_backend, POLICY)
    ownership.mark(our_backend, POLICY, "one")
    our_backend.put_bytes(key="docs/2026/11/25/object", content=b"content")
    assert list(our_backend.iter_locations(folder)) == ["docs/2026/11/25/object"]
    listed: Any = our_backend
    assert [found.location for found in listed.iter_objects(folder)] == ["docs/2026/11/25/object"]


def test_the_folder_of_marks_lists_them_if_it_is_named(our_backend: StorageBackend) -> None:
    ownership = Ownership("shop")
    ownership.check(our_backend, POLICY)
    ownership.mark(our_backend, POLICY, "one")
    database = "docs/.granite-storage/databases/one"
    assert sorted(our_backend.iter_locations("docs/.granite-storage")) == [database, OWNER_MARK]
    assert list(our_backend.iter_locations("docs/.granite-storage/databases")) == [database]


def test_a_listing_that_knows_nothing_of_marks_can_ask() -> None:
    backend = MinimalBackend()
    stored = manager_of(backend, "shop").store("documents", b"content")
    assert [location for location in backend.iter_locations() if not is_mark(location)] == [stored.location]
