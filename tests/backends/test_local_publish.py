from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.local import LocalStorageBackend
from granite_storage.exceptions import BackendError, ObjectExistsError, StorageError, UnassignableError
from granite_storage.testing.suite.sources import content_of, ref_to, then


@pytest.fixture(params=["unnamed", "named"])
def local(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
    """A backend whose files have no name before they are published, and one whose files have."""
    if request.param == "named":
        monkeypatch.setattr("granite_storage.backends.local.can_link_unnamed", lambda folder: False)
    return LocalStorageBackend(tmp_path / "root")


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were synced, in order."""
    seen: list[str] = []
    fsync = os.fsync

    def counted(file: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    monkeypatch.setattr(os, "fsync", counted)
    return seen


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorageBackend:
    """A backend whose files have names before they are published, which can be taken away."""
    monkeypatch.setattr("granite_storage.backends.local.can_link_unnamed", lambda folder: False)
    return LocalStorageBackend(tmp_path / "root")


def _files(backend: LocalStorageBackend) -> list[str]:
    return sorted(str(path.relative_to(backend.root_dir)) for path in backend.root_dir.rglob("*") if path.is_file())


def test_a_put_into_a_folder_that_is_there_syncs_file_and_folder(local: LocalStorageBackend, fsyncs: list[str]) -> None:
    local.put_bytes(key="docs/2024/a", content=b"x")
    fsyncs.clear()
    ref = local.put_bytes(key="docs/2024/b", content=content_of(3_000_000))
    assert [Path(path).parent.name for path in fsyncs] == [".incoming", "docs"]
    assert fsyncs[1] == str(local.root_dir / "docs" / "2024")
    fsyncs.clear()
    local.copy(ref, key="docs/2024/c")
    assert len(fsyncs) == 2


def test_a_new_folder_is_synced_into_the_one_above_it(local: LocalStorageBackend, fsyncs: list[str]) -> None:
    local.put_bytes(key="docs/2024/a", content=b"x")
    root = str(local.root_dir)
    assert fsyncs[:2] == [root, f"{root}/docs"]
    assert fsyncs[-1] == f"{root}/docs/2024"
    assert len(fsyncs) == 4


def test_nothing_is_synced_if_fsync_is_off(tmp_path: Path, fsyncs: list[str]) -> None:
    backend = LocalStorageBackend(tmp_path / "root", fsync=False)
    backend.copy(backend.put_bytes(key="docs/a", content=b"x"), key="new/b")
    assert fsyncs == []


def test_a_file_gets_its_name_only_after_it_was_synced(
    local: LocalStorageBackend, fsyncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put_bytes(key="docs/a", content=b"x")
    fsyncs.clear()
    link = os.link
    monkeypatch.setattr(os, "link", lambda *args, **kwargs: (fsyncs.append("link"), link(*args, **kwargs)))
    local.put_bytes(key="docs/b", content=b"x")
    assert [Path(path).name if path == "link" else Path(path).parent.name for path in fsyncs] == [
        ".incoming",
        "link",
        "root",
    ]


def test_losing_to_another_put_leaves_the_others_object(local: LocalStorageBackend) -> None:
    with pytest.raises(ObjectExistsError) as raised:
        local.put_stream(key="a", stream=then(b"late", lambda: local.put_bytes(key="a", content=b"early")))
    assert isinstance(raised.value.__cause__, FileExistsError)
    assert local.get(ref_to(local, "a")) == b"early"
    assert _files(local) == ["a"]


def test_a_copy_that_the_kernel_refuses_is_made_by_hand(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = local.put_bytes(key="a", content=content_of(2_000_000))
    copy_range, calls = os.copy_file_range, []

    def half(source: int, target: int, count: int) -> int:
        calls.append(count)
        if len(calls) > 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return copy_range(source, target, 1_000_000)

    monkeypatch.setattr(os, "copy_file_range", half)
    local.copy(ref, key="b")
    assert local.get(ref_to(local, "b")) == content_of(2_000_000)
    monkeypatch.delattr(os, "copy_file_range")
    local.copy(ref, key="c")
    assert local.get(ref_to(local, "c")) == content_of(2_000_000)


def test_incoming_is_made_again_if_it_went_away(local: LocalStorageBackend) -> None:
    (local.root_dir / ".incoming").rmdir()
    assert local.get(local.put_bytes(key="a", content=b"x")) == b"x"


def test_a_large_stream_is_read_into_one_buffer(local: LocalStorageBackend) -> None:
    class Counting(io.BytesIO):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            self.rooms: set[int] = set()

        def read(self, *args: Any) -> bytes:
            raise AssertionError("it has readinto")

        def readinto(self, buffer: Any) -> int:
            self.rooms.add(len(buffer))
            return super().readinto(buffer)

    stream = Counting(content_of(5_000_000))
    ref = local.put_stream(key="a", stream=stream)
    assert ref.size == 5_000_000
    assert local.get(ref) == content_of(5_000_000)
    assert all(256 * 1024 <= room <= 1024 * 1024 for room in stream.rooms)
    assert len(stream.rooms) == 1


def test_a_stream_without_readinto_is_read(local: LocalStorageBackend) -> None:
    class Plain:
        def __init__(self) -> None:
            self.parts = [b"one", b"two", b""]

        def read(self, amount: int = -1) -> bytes:
            return self.parts.pop(0)

    assert local.get(local.put_stream(key="a", stream=Plain())) == b"onetwo"  # type: ignore[arg-type]


def test_a_write_that_takes_only_a_part_goes_on(local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, part: write(file, part[:1000]))
    ref = local.put_bytes(key="a", content=content_of(10_500))
    assert local.get(ref) == content_of(10_500)


def test_a_wrong_size_does_no_harm(local: LocalStorageBackend) -> None:
    for number, size in enumerate((0, 1, 5_000_000, 10**12)):
        ref = local.put_stream(key=f"{number}", stream=io.BytesIO(content_of(1_000_000)), size=size)
        assert ref.size == 1_000_000
        assert local.get(ref) == content_of(1_000_000)


def test_a_stream_that_has_no_data_yet_is_not_taken_for_its_end(local: LocalStorageBackend) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with (
        open(reading, "rb", buffering=0) as stream,
        open(writing, "wb"),
        pytest.raises(UnassignableError, match="non-blocking"),
    ):
        local.put_stream(key="a", stream=stream)
    assert _files(local) == []


def test_what_could_not_be_recorded_is_not_stored(local: LocalStorageBackend) -> None:
    for unfit in ({"content_type": "a\0b"}, {"original_filename": "x" * 300}, {"extra": {"x": float("nan")}}):
        with pytest.raises(StorageError):
            local.put_bytes(key="a", content=b"x", **unfit)  # type: ignore[arg-type]
    assert _files(local) == []


def test_a_folder_that_is_removed_while_the_content_is_read_is_made_again(local: LocalStorageBackend) -> None:
    stream = then(b"content", lambda: (local.root_dir / "docs").rmdir())
    assert local.get(local.put_stream(key="docs/a", stream=stream)) == b"content"
    assert _files(local) == ["docs/a"]


def test_a_folder_that_is_removed_each_time_is_an_error(
    local: LocalStorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def too_late(*args: Any, **kwargs: Any) -> None:
        (local.root_dir / "docs").rmdir()
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", too_late)
    with pytest.raises(BackendError, match="No such file"):
        local.put_bytes(key="docs/a", content=b"x")
    assert _files(local) == []


def test_a_file_that_is_taken_from_incoming_is_an_error(named: LocalStorageBackend) -> None:
    def take() -> None:
        for path in (named.root_dir / ".incoming").iterdir():
            path.unlink()

    with pytest.raises(BackendError, match="No such file"):
        named.put_stream(key="docs/a", stream=then(b"content", take))
    assert _files(named) == []
