"""StoredFile: what can be done with a stored file, and with one that is still staged."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
import os
import pickle
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from granite_storage import (
    Ability,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidRefError,
    LocalStorageBackend,
    MemoryStorageBackend,
    NotStoredError,
    NotSupportedError,
    ObjectNotFoundError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    Upload,
)

CONTENT = b"0123456789" * 1000


class Plain(MemoryStorageBackend):
    """A backend with nothing beyond the protocol: its streams cannot seek."""

    backend_name = "plain"
    abilities = frozenset[Ability]()

    def open(self, ref: StoredObjectRef) -> Any:
        class Stream(io.BytesIO):
            def seekable(self) -> bool:
                return False

            def seek(self, *args: int) -> int:
                raise io.UnsupportedOperation("seek")

        return Stream(self.get(ref))


@pytest.fixture(params=["memory", "local", "plain"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> StorageManager:
    backend = {
        "memory": MemoryStorageBackend,
        "local": lambda: LocalStorageBackend(tmp_path / "stored", fsync=False),
        "plain": Plain,
    }[request.param]()
    return StorageManager({"it": backend}, {"documents": StoragePolicy("documents", "it", key_prefix="docs")})


@pytest.fixture
def stored(manager: StorageManager) -> StoredFile:
    return manager.store("documents", Upload(CONTENT, filename="digits.txt", extra={"k": "v"}))


@pytest.fixture
def staged(manager: StorageManager) -> StoredFile:
    return StoredFile(manager, Upload(io.BytesIO(CONTENT), "digits.txt", "text/plain"))


@pytest.fixture(params=["stored", "staged"])
def file(request: pytest.FixtureRequest, stored: StoredFile, staged: StoredFile) -> StoredFile:
    return {"stored": stored, "staged": staged}[request.param]


def missing(stored: StoredFile) -> StoredFile:
    stored.manager.delete(stored.ref)
    return stored


# Reading


def test_open_gives_a_seekable_stream(file):
    with file.open() as stream:
        assert stream.seekable()
        assert stream.seek(5) == 5
        assert stream.read(7) == b"5678901"
        assert stream.seek(-3, os.SEEK_END) == len(CONTENT) - 3
        assert stream.read() == b"789"
        stream.seek(0)
        assert stream.read() == CONTENT
    assert stream.closed


def test_two_opens_do_not_disturb_each_other(file):
    with file.open() as one, file.open() as other:
        one.read(3)
        assert other.read(3) == b"012"
        assert one.read(3) == b"345"


def test_read_gives_everything_every_time(file):
    assert file.read() == CONTENT
    assert file.read() == CONTENT


def test_text_decodes(manager):
    for make in (lambda upload: manager.store("documents", upload), lambda upload: StoredFile(manager, Upload(upload))):
        assert make("naïve").text() == "naïve"
        assert make("naïve".encode("latin-1")).text("latin-1") == "naïve"
        assert make(b"\xff").text(errors="replace") == "\ufffd"
        with pytest.raises(UnicodeDecodeError):
            make(b"\xff").text()


def test_iter_bytes_gives_pieces_of_the_size_asked_for(file):
    pieces = list(file.iter_bytes(4096))
    assert [len(piece) for piece in pieces] == [4096, 4096, len(CONTENT) - 8192]
    assert b"".join(pieces) == CONTENT
    with pytest.raises(ValueError, match="1 or more, not 0"):
        list(file.iter_bytes(0))


def test_iter_bytes_closes_its_stream_when_it_is_left(stored, monkeypatch):
    opened: list[io.BytesIO] = []
    monkeypatch.setattr(stored.manager, "open", lambda ref: opened.append(io.BytesIO(CONTENT)) or opened[0])
    pieces = stored.iter_bytes(10)
    next(pieces)
    pieces.close()
    assert opened[0].closed


def test_reading_a_staged_upload_leaves_the_callers_stream_open(manager):
    source = io.BytesIO(CONTENT)
    file = StoredFile(manager, Upload(source))
    with file.open() as stream:
        stream.read()
    assert not source.closed
    assert manager.store("documents", file).read() == CONTENT


@pytest.mark.parametrize("method", ["open", "read", "text"])
def test_a_missing_object_is_told(stored, method):
    with pytest.raises(ObjectNotFoundError):
        getattr(missing(stored), method)()
    assert not stored.exists()


# A real file


def test_save_to_writes_the_content(file, tmp_path):
    target = tmp_path / "copy.txt"
    assert file.save_to(str(target)) == target
    assert target.read_bytes() == CONTENT
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_save_to_replaces_what_is_there_whole_or_not_at_all(stored, tmp_path, monkeypatch):
    target = tmp_path / "copy.txt"
    target.write_bytes(b"before")

    def torn(size: int) -> Any:
        yield CONTENT[:100]
        assert target.read_bytes() == b"before"
        raise OSError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(StoredFile, "iter_bytes", lambda self, size: torn(size))
        with pytest.raises(OSError, match="the network is gone"):
            stored.save_to(target)
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) in (["copy.txt"], ["stored", "copy.txt"], ["copy.txt", "stored"])
    with target.open("rb") as reader:
        stored.save_to(target)
        assert reader.read() == b"before"  # who has it open keeps what was there
    assert target.read_bytes() == CONTENT


def test_save_to_writes_nothing_if_the_object_is_shorter_than_its_ref_says(manager, stored, tmp_path):
    wrong = manager.file(stored.ref.replace(size=len(CONTENT) + 1))
    with pytest.raises(ChecksumMismatchError, match=f"has {len(CONTENT)} bytes, but its ref says {len(CONTENT) + 1}"):
        wrong.save_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_save_to_verifies_while_it_writes(manager, stored, tmp_path):
    target = tmp_path / "copy"
    assert stored.save_to(target, verify=True).read_bytes() == CONTENT
    wrong = manager.file(stored.ref.replace(checksum="sha256:" + hashlib.sha256(b"other").hexdigest()))
    with pytest.raises(ChecksumMismatchError, match="has another sha256 than its ref says"):
        wrong.save_to(target, verify=True)
    unknown = manager.file(stored.ref.replace(checksum="crc99:00"))
    with pytest.raises(NotSupportedError, match="of no algorithm that hashlib has"):
        unknown.save_to(tmp_path / "other", verify=True)
    assert target.read_bytes() == CONTENT
    assert set(os.listdir(tmp_path)) <= {"copy", "stored"}
    assert wrong.save_to(target).read_bytes() == CONTENT  # nobody asked


def test_save_to_of_a_staged_upload_has_nothing_to_verify(staged, tmp_path):
    with pytest.raises(NotStoredError):
        staged.save_to(tmp_path / "copy", verify=True)
    assert not (tmp_path / "copy").exists()


def test_save_to_leaves_the_process_umask_alone(stored, tmp_path, monkeypatch):
    """Another thread that makes a file meanwhile would get the wrong mode."""

    def forbidden(mask: int) -> int:
        raise AssertionError("save_to changed the umask")

    monkeypatch.setattr(os, "umask", forbidden)
    stored.save_to(tmp_path / "copy")


def test_as_path_gives_a_real_file_for_as_long_as_the_block(file):
    with file.as_path() as path:
        assert Path(path).read_bytes() == CONTENT
        assert path.suffix in (".txt", "")
    if file.staged or Ability.LOCAL_PATH not in getattr(file.manager.backends["it"], "abilities", ()):
        assert not path.exists()


def test_as_path_copies_nothing_where_the_object_is_a_file(tmp_path, monkeypatch):
    manager = StorageManager(
        {"disk": LocalStorageBackend(tmp_path, fsync=False)}, {"docs": StoragePolicy("docs", "disk")}
    )
    file = manager.store("docs", CONTENT)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    with file.as_path() as path:
        assert os.path.samefile(path, tmp_path / file.location)
    assert file.exists()


def test_as_path_of_a_staged_upload_with_a_name_as_long_as_names_get(manager):
    file = StoredFile(manager, Upload(b"x", filename="a." + "é" * 126))
    with file.as_path() as path:
        assert path.read_bytes() == b"x"


def test_as_path_of_a_staged_upload_keeps_the_suffix(staged):
    with staged.as_path() as path:
        assert path.suffix == ".txt"


def test_as_path_of_a_missing_object_is_told(stored):
    with pytest.raises(ObjectNotFoundError), missing(stored).as_path():
        pass


# Verifying


def test_verify_accepts_what_is_as_its_ref_says(stored):
    stored.verify()


def test_verify_tells_another_size_and_another_content(manager, stored):
    with pytest.raises(ChecksumMismatchError, match=f"has {len(CONTENT)} bytes, but its ref says 5"):
        manager.file(stored.ref.replace(size=5)).verify()
    other = "sha256:" + hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ChecksumMismatchError, match="has another sha256 than its ref says"):
        manager.file(stored.ref.replace(checksum=other)).verify()
    with pytest.raises(ObjectNotFoundError):
        missing(stored).verify()


def test_verify_takes_any_algorithm_that_hashlib_has(manager, stored):
    manager.file(stored.ref.replace(checksum="md5:" + hashlib.md5(CONTENT).hexdigest().upper())).verify()


@pytest.mark.parametrize("checksum", ["", "sha256:", "crc99:00", "nothing", "shake_128:00"])
def test_verify_of_a_checksum_that_nobody_can_compute_says_so(manager, stored, checksum):
    with pytest.raises(NotSupportedError, match="of no algorithm that hashlib has"):
        manager.file(stored.ref.replace(checksum=checksum)).verify()


def test_a_staged_upload_has_nothing_to_verify(staged):
    with pytest.raises(NotStoredError):
        staged.verify()


# The ref's members


def test_a_stored_file_has_the_refs_members(stored):
    ref = stored.ref
    assert (stored.storage_key, stored.backend, stored.location) == ("documents", "it", ref.location)
    assert (stored.size, stored.content_type, stored.filename) == (len(CONTENT), "text/plain", "digits.txt")
    assert stored.checksum == "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    assert stored.extra["k"] == "v"
    assert stored.created_at is not None
    assert stored.created_at.isoformat(timespec="microseconds") == ref.created_at
    assert stored.created_at.utcoffset().total_seconds() == 0
    assert (stored.staged, stored.upload) == (False, None)
    assert stored.exists()


def test_a_staged_file_has_what_is_known_of_it(staged):
    assert (staged.staged, staged.size, staged.filename, staged.content_type) == (
        True,
        len(CONTENT),
        "digits.txt",
        "text/plain",
    )
    assert staged.extra == {}
    assert not staged.exists()
    for member in ("ref", "location", "checksum", "created_at", "storage_key", "backend"):
        with pytest.raises(NotStoredError, match=r"'digits\.txt' is staged and has no ref yet: flush the session"):
            getattr(staged, member)


def test_a_ref_without_a_time_has_none(manager):
    assert manager.file(StoredObjectRef("documents", "it", "docs/a", 1, "")).created_at is None


# Identity


def test_files_are_equal_if_they_are_the_same_object(manager, stored):
    same = manager.file(stored.ref.replace(size=1, storage_key="other"))
    assert stored == same
    assert stored == stored.ref
    assert stored.ref == stored or stored == stored.ref
    assert hash(stored) == hash(same) == hash(stored.ref)
    assert stored != manager.file(stored.ref.replace(location="docs/other"))
    assert stored != manager.file(stored.ref.replace(backend="other"))
    assert stored != "docs/other"
    assert {stored, same} == {stored}


def test_a_staged_file_equals_only_itself_and_has_no_hash(manager, staged, stored):
    assert staged == staged
    assert staged != StoredFile(manager, staged.upload)
    assert staged != stored
    assert stored != staged
    assert staged != stored.ref
    with pytest.raises(TypeError, match="flush the session first"):
        hash(staged)


def test_what_cannot_be_read_equals_nothing(manager, stored):
    unreadable = StoredFile(manager, '{"legacy_inline_text": "x"}')
    assert unreadable != stored
    assert stored != unreadable
    assert unreadable != stored.ref
    with pytest.raises(InvalidRefError):
        hash(unreadable)


def test_a_repr_says_what_and_where_and_never_a_filename(stored, staged):
    location = stored.location
    assert repr(stored) == f"<StoredFile documents it:{location} {len(CONTENT)} bytes text/plain>"
    assert repr(staged) == "<StoredFile staged>"
    assert repr(StoredFile(stored.manager, "not json")) == "<StoredFile unreadable>"
    assert "digits" not in f"{stored!r}{staged!r}"


def test_copies_are_the_same_object(stored, staged):
    for file in (copy.copy(stored), copy.deepcopy(stored)):
        assert file == stored
        assert file is not stored
        assert file.read() == CONTENT
    assert copy.deepcopy(staged).read() == CONTENT


def test_a_pickle_holds_the_ref_and_no_manager(stored):
    again = pickle.loads(pickle.dumps(stored))
    assert again.ref.to_dict() == stored.ref.to_dict()
    for use in (again.read, again.open, again.exists, lambda: again.manager):
        with pytest.raises(ConfigurationError, match=r"manager\.file\(stored\.ref\)"):
            use()


@pytest.mark.parametrize("form", ["ref", "dict", "text", "bytes"])
def test_a_file_is_made_of_any_form_of_a_ref(manager, stored, form):
    given = {
        "ref": stored.ref,
        "dict": stored.ref.to_dict(),
        "text": stored.ref.to_json(),
        "bytes": stored.ref.to_json().encode(),
    }[form]
    assert manager.file(given).read() == CONTENT


@pytest.mark.parametrize("given", [{}, "{}", "not json", {"legacy_inline_text": "x"}, 5, []])
def test_a_file_of_no_ref_is_refused_at_once(manager, given):
    with pytest.raises(InvalidRefError):
        manager.file(given)


# The same, awaited


def test_every_async_twin_gives_what_its_sync_twin_gives(file, tmp_path):
    async def use() -> None:
        assert await file.aread() == CONTENT
        assert await file.atext() == CONTENT.decode()
        assert await file.aexists() is not file.staged
        assert [piece async for piece in file.aiter_bytes(6000)] == list(file.iter_bytes(6000))
        assert (await file.asave_to(tmp_path / "saved")).read_bytes() == CONTENT
        async with file.aopen() as stream:
            assert await stream.read(3) == b"012"
            assert await stream.seek(-2, os.SEEK_END) == len(CONTENT) - 2
            assert await stream.tell() == len(CONTENT) - 2
            assert await stream.read() == b"89"
            await stream.seek(0)
            assert b"".join([chunk async for chunk in stream]) == CONTENT
        if file.staged:
            with pytest.raises(NotStoredError):
                await file.averify()
        else:
            await file.averify()

    asyncio.run(use())


class Slow(MemoryStorageBackend):
    """A backend each of whose operations waits until somebody else made progress."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def _wait(self) -> None:
        self.entered.set()
        assert self.gate.wait(30), "the event loop stood still"

    def get(self, ref: StoredObjectRef) -> bytes:
        self._wait()
        return super().get(ref)

    def open(self, ref: StoredObjectRef) -> Any:
        self._wait()
        return super().open(ref)

    def exists(self, ref: StoredObjectRef) -> bool:
        self._wait()
        return super().exists(ref)


@pytest.mark.parametrize("name", ["aread", "atext", "aexists", "averify", "asave_to", "aopen", "aiter_bytes"])
def test_no_async_twin_blocks_the_event_loop(name, tmp_path):
    backend = Slow()
    manager = StorageManager({"slow": backend}, {"documents": StoragePolicy("documents", "slow")})
    stored = manager.store("documents", b"content")
    backend.gate.clear()
    backend.entered.clear()

    async def use() -> None:
        if name == "aopen":
            async with stored.aopen() as stream:
                assert await stream.read() == b"content"
        elif name == "aiter_bytes":
            assert [piece async for piece in stored.aiter_bytes()] == [b"content"]
        else:
            await getattr(stored, name)(*((tmp_path / "saved",) if name == "asave_to" else ()))

    async def other_task() -> None:
        while not backend.entered.is_set():
            await asyncio.sleep(0)
        backend.gate.set()  # only a loop that is free gets here

    async def both() -> None:
        await asyncio.gather(use(), other_task())

    asyncio.run(both())


def test_created_at_is_utc_or_an_error_of_ours() -> None:
    manager = StorageManager({"m": "memory://"}, {"p": StoragePolicy("p", "m")})
    ref = manager.store("p", b"abc").ref
    naive, offset = (manager.file(ref.replace(created_at=f"2024-01-01T10:00:00{zone}")) for zone in ("", "+02:00"))
    assert str(naive.created_at) == "2024-01-01 10:00:00+00:00"
    assert str(offset.created_at) == "2024-01-01 08:00:00+00:00"
    with pytest.raises(InvalidRefError, match="created_at"):
        _ = manager.file(ref.replace(created_at="yesterday")).created_at
