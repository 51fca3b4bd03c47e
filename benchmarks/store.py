"""Storing one large stream on tmpfs, where nothing waits for a disk: what is left is reading, hashing and writing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.case import Case, Contender, Round, Settings
from benchmarks.results import Result
from benchmarks.runner import measure
from granite_storage import StorageManager, StoragePolicy

__all__ = ["run"]

_MIB = 2**20
_BUFFER = 512 * 1024
_FSYNCS = 2  # the file and its folder


def run(settings: Settings) -> Iterator[Result]:
    """In /dev/shm, where there is one."""
    size = (64 if settings.quick else 512) * _MIB
    memory = "/dev/shm"
    where, called = (memory, "tmpfs") if os.path.isdir(memory) else (settings.directory, settings.directory)
    if shutil.disk_usage(where).free < 3 * size:
        yield Result(f"store {size // _MIB} MB on {called}", "", 0, (), skipped=f"{where} has too little room")
        return
    with tempfile.TemporaryDirectory(prefix="granite-bench-", dir=where) as folder:
        source = Path(folder, "source")
        block = os.urandom(_MIB)
        with source.open("wb") as file:
            for _ in range(size // _MIB):
                file.write(block)
        args = (folder, size)
        contenders = (
            Contender("granite-storage", granite, args, note="manager.store(): sha256, atomic, 2 fsyncs"),
            Contender("bare loop", bare, args, goal=1.05, note="readinto, sha256, write; 2 fsyncs"),
            Contender("advanced-alchemy", advanced_alchemy, args, peer=True, note="no checksum, no fsync"),
            Contender("sqlalchemy-file", sqlalchemy_file, args, peer=True, note="no checksum, no fsync, not atomic"),
        )
        title = f"store a {size // _MIB} MB stream on {called}"
        case = Case(title, contenders, 1, "ms", 1e3, peak_goal=32 * _MIB)
        yield measure(case, settings.rounds)


@contextmanager
def _storing(folder: str, size: int, put: Callable[[Path, Any], object], fsyncs: int | None) -> Iterator[Round]:
    """A round that stores the source's stream below a folder, which is emptied afterwards.

    :param fsyncs: how many a put makes, seen on the round that warms up: the same number for all that are compared.
    """
    root = Path(folder, uuid.uuid4().hex)
    root.mkdir()

    def store() -> None:
        with open(Path(folder, "source"), "rb") as stream:
            put(root, stream)

    def check() -> None:
        stored = [file for file in root.rglob("*") if file.is_file() and file.stat().st_size == size]
        assert len(stored) == 1, f"{len(stored)} whole files were stored, not one"
        stored[0].unlink()

    store()  # makes the folders
    check()
    with mock.patch("os.fsync", wraps=os.fsync) as seen:
        store()
    check()
    assert fsyncs in (None, seen.call_count), f"{seen.call_count} fsyncs, not {fsyncs}"
    yield Round(store, after=check)


@contextmanager
def granite(folder: str, size: int) -> Iterator[Round]:
    """``manager.store()``."""
    managers: list[StorageManager] = []

    def put(root: Path, stream: Any) -> None:
        if not managers:
            policy = StoragePolicy("documents", "local", max_size=2**40, key_prefix="docs")
            managers.append(StorageManager({"local": f"file://{root}"}, {"documents": policy}))
        assert managers[0].store("documents", stream).size == size

    with _storing(folder, size, put, _FSYNCS) as one:
        yield one


@contextmanager
def bare(folder: str, size: int) -> Iterator[Round]:
    """The least that stores a stream with its checksum."""

    def put(root: Path, stream: Any) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_BUFFER))
        with open(root / "stored", "xb", buffering=0) as file:
            while count := stream.readinto(buffer):
                part = buffer[:count]
                digest.update(part)
                file.write(part)
            os.fsync(file.fileno())
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        assert digest.hexdigest()

    with _storing(folder, size, put, _FSYNCS) as one:
        yield one


@contextmanager
def advanced_alchemy(folder: str, size: int) -> Iterator[Round]:
    """``FileObject.save()`` on its obstore backend."""
    from advanced_alchemy.types.file_object import FileObject
    from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
    from obstore.store import LocalStore

    def put(root: Path, stream: Any) -> None:
        backend = ObstoreBackend("local", LocalStore(root))
        FileObject(backend, "stored", content_type="application/octet-stream").save(stream)

    with _storing(folder, size, put, None) as one:
        yield one


@contextmanager
def sqlalchemy_file(folder: str, size: int) -> Iterator[Round]:
    """``File.save_to_storage()`` on libcloud's local driver."""
    from libcloud.storage.drivers.local import LocalStorageDriver
    from sqlalchemy_file import File
    from sqlalchemy_file.storage import StorageManager as Storages

    def put(root: Path, stream: Any) -> None:
        if not Storages._storages:
            tempfile.tempdir = str(root.parent)  # where libcloud leaves a lock file for each object
            (root / "container").mkdir()
            Storages.add_storage("local", LocalStorageDriver(str(root)).get_container("container"))
        File(stream, "stored", "application/octet-stream").save_to_storage("local")

    with _storing(folder, size, put, None) as one:
        yield one
