"""One pass over an upload: counted, hashed, typed, limited."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.exceptions import (
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidUploadError,
    StorageError,
)
from granite_storage.intake import Candidate, Upload, accept
from granite_storage.policies import StoragePolicy
from granite_storage.testing.strategies import contents
from tests.intake.sources import Endless, OneShot, OnlyRead

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100)
ANY = StoragePolicy("files", "local")


def policy(**options: Any) -> StoragePolicy:
    return StoragePolicy("files", "local", **options)


@given(contents(50_000), st.integers(min_value=1, max_value=70_000), st.booleans(), st.booleans())
def test_every_byte_passes_counted_and_hashed(content: bytes, step: int, one_shot: bool, into: bool) -> None:
    upload = Upload(OneShot(content, 5000) if one_shot else content)
    with accept(upload, ANY) as accepted:
        parts, buffer = [], bytearray(step)
        if into:
            while count := accepted.stream.readinto(buffer):  # type: ignore[attr-defined]
                parts.append(bytes(buffer[:count]))
        else:
            parts = list(iter(lambda: accepted.stream.read(step), b""))
        assert accepted.finished
        assert b"".join(parts) == content
        assert accepted.size == len(content)
        assert accepted.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_policy_chooses_the_hash() -> None:
    with accept(Upload(b"abc"), policy(checksum="blake2b")) as accepted:
        accepted.stream.read()
        assert accepted.checksum == f"blake2b:{hashlib.blake2b(b'abc').hexdigest()}"


def test_what_the_upload_brings_is_handed_on() -> None:
    with accept(Upload(PNG, "a.png", "image/jpeg", {"a": 1}), ANY) as accepted:
        assert (accepted.content_type, accepted.suffix) == ("image/png", ".png")
        assert (accepted.filename, accepted.extra, accepted.size_hint) == ("a.png", {"a": 1}, len(PNG))


def test_the_size_is_known_beforehand_where_the_source_tells_or_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(20_000))
    for source, hint in (
        (path, 20_000),
        (io.BytesIO(bytes(20_000)), 20_000),
        (OneShot(bytes(8191), 8000), 8191),
        (OneShot(bytes(20_000), 8000), None),
    ):
        with accept(Upload(source), ANY) as accepted:
            assert accepted.size_hint == hint


def test_a_stream_in_the_middle_is_stored_from_there_with_its_size() -> None:
    source = io.BytesIO(b"0123456789")
    source.seek(5)
    with accept(Upload(source), ANY) as accepted:
        assert (accepted.size_hint, accepted.stream.read(), accepted.size) == (5, b"56789", 5)


def test_a_known_size_above_the_limit_is_refused_before_anything_is_read() -> None:
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            pytest.fail("it was read")

    limit = StoragePolicy("documents", "local", 10 * 2**20)
    with pytest.raises(ContentTooLargeError) as caught, accept(Upload(Unread(bytes(10 * 2**20 + 1)), "a.pdf"), limit):
        pytest.fail("it was accepted")
    assert str(caught.value) == "'a.pdf' is larger than 10 485 760 bytes, the max_size of policy 'documents'"


@pytest.mark.parametrize("limit", [0, 100, 8191, 8192, 8193, 100_000])
def test_an_unknown_size_is_refused_one_byte_beyond_the_limit(limit: int) -> None:
    source = Endless()

    def store() -> None:
        with accept(Upload(source), policy(max_size=limit)) as accepted:
            while accepted.stream.read(4096):
                pass

    with pytest.raises(ContentTooLargeError, match=r"the upload is larger than .* the max_size of policy 'files'"):
        store()
    assert source.given == limit + 1


@given(st.integers(min_value=0, max_value=20_000), st.integers(min_value=-2, max_value=2), st.booleans())
def test_the_limit_itself_is_allowed(limit: int, beyond: int, one_shot: bool) -> None:
    content = bytes(max(0, limit + beyond))
    try:
        with accept(Upload(OneShot(content, 5000) if one_shot else content), policy(max_size=limit)) as accepted:
            assert accepted.stream.read() == content
        assert len(content) <= limit
    except ContentTooLargeError:
        assert len(content) > limit


@pytest.mark.parametrize("source", [b"ab", OneShot(b"ab")], ids=["known", "unknown"])
def test_content_below_the_minimum_is_refused(source: Any) -> None:
    with pytest.raises(ContentTooSmallError) as caught, accept(Upload(source), policy(min_size=3)):
        pytest.fail("it was accepted")
    assert str(caught.value) == "the upload has 2 bytes, fewer than 3 bytes, the min_size of policy 'files'"


def test_content_below_the_minimum_that_shows_only_at_its_end_is_refused_there() -> None:
    with accept(Upload(OneShot(bytes(9000), 1000)), policy(min_size=9001)) as accepted:
        for _ in range(2):  # nor is it taken for complete by whoever tries again
            with pytest.raises(ContentTooSmallError):
                accepted.stream.read()
        assert not accepted.finished


@pytest.mark.parametrize("source", [b"abc", OneShot(bytes(9000))], ids=["known", "unknown"])
def test_content_of_exactly_the_minimum_is_accepted(source: Any) -> None:
    size = 3 if source == b"abc" else 9000
    with accept(Upload(source), policy(min_size=size)) as accepted:
        assert len(accepted.stream.read()) == size


def test_a_type_outside_the_policy_is_refused_with_what_was_found_claimed_and_wanted() -> None:
    images = StoragePolicy("covers", "local", content_types=("image/*", "application/pdf"))
    with pytest.raises(ContentTypeNotAllowedError) as caught, accept(Upload(b"<script>", "x.png", "image/png"), images):
        pytest.fail("it was accepted")
    assert str(caught.value) == (
        "'x.png' is application/octet-stream (it claims to be image/png); "
        "the content_types of policy 'covers' are image/*, application/pdf"
    )


def test_a_claim_that_is_true_is_not_repeated_in_the_error() -> None:
    refusal = pytest.raises(ContentTypeNotAllowedError, match=r"^'x\.png' is image/png; the content_types")
    with refusal, accept(Upload(PNG, "x.png", "image/png"), policy(content_types=("text/*",))):
        pytest.fail("it was accepted")


@pytest.mark.parametrize("patterns", [("image/png",), ("image/*",), ("*/*",), ("text/*", "image/*")])
def test_a_type_within_the_policy_is_accepted(patterns: tuple[str, ...]) -> None:
    with accept(Upload(PNG), policy(content_types=patterns)) as accepted:
        assert accepted.stream.read() == PNG


def test_an_empty_file_has_the_type_that_it_claims_if_that_is_text() -> None:
    with accept(Upload(b"", "a.txt"), ANY) as accepted:
        assert (accepted.content_type, accepted.stream.read(), accepted.size) == ("text/plain", b"", 0)
    with accept(Upload(b"", "a.png"), ANY) as accepted:
        assert accepted.content_type == "application/octet-stream"


def test_an_error_of_the_source_comes_through_and_stays() -> None:
    error = ConnectionResetError("gone")
    with accept(Upload(OnlyRead(bytes(8192), error, b"more")), ANY) as accepted:
        for _ in range(2):
            with pytest.raises(ConnectionResetError) as caught:
                accepted.stream.read()
            assert caught.value is error
        with pytest.raises(ConnectionResetError):
            accepted.finish()


def test_a_source_that_turns_to_text_is_refused() -> None:
    refusal = pytest.raises(InvalidUploadError, match=r"'a\.bin' cannot be read: its stream gives text")
    with accept(Upload(OnlyRead(bytes(8192), "text"), "a.bin"), ANY) as accepted, refusal:
        accepted.stream.read()


def test_a_backend_that_stops_exactly_at_the_end_is_finished_for_it() -> None:
    with accept(Upload(b"abc"), ANY) as accepted:
        assert accepted.stream.read(3) == b"abc"
        assert not accepted.finished
        assert accepted.size == 3
        assert accepted.finished


def test_a_backend_that_stops_before_the_end_has_not_stored_the_upload() -> None:
    for member in ("size", "checksum"):
        with accept(Upload(b"abcdef", "a.txt"), ANY) as accepted:
            accepted.stream.read(3)
            with pytest.raises(StorageError, match=r"stopped reading 'a\.txt' after 3 bytes, before its end"):
                getattr(accepted, member)


def test_the_source_stays_open_and_a_path_is_closed(tmp_path: Path) -> None:
    source = io.BytesIO(b"abc")
    with accept(Upload(source), ANY) as accepted:
        accepted.stream.close()
    assert not source.closed
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with accept(Upload(path), ANY) as accepted:
        stream = accepted.stream
    with pytest.raises(ValueError, match="closed"):
        stream.read()


def test_a_rereadable_upload_is_accepted_again_after_a_failure() -> None:
    upload = Upload(io.BytesIO(b"abc"))
    for _ in range(2):
        with accept(upload, ANY) as accepted:
            assert accepted.stream.read(1) == b"a"


def test_the_stream_is_what_a_binary_stream_is() -> None:
    with accept(Upload(b"abc\ndef"), ANY) as accepted:
        assert isinstance(accepted.stream, io.BufferedIOBase)
        assert accepted.stream.readable()
        assert not accepted.stream.writable()
        assert not accepted.stream.seekable()  # what was hashed is what was read, once and in order


def test_memory_does_not_grow_with_the_content() -> None:
    class Long(Endless):
        def readinto(self, buffer: Any, /) -> int:
            return 0 if self.given >= 64 * 2**20 else super().readinto(buffer)

    buffer = bytearray(2**20)
    with accept(Upload(Long()), ANY) as accepted:
        tracemalloc.start()
        while accepted.stream.readinto(buffer):  # type: ignore[attr-defined]
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert accepted.size == 64 * 2**20
    assert peak < 2 * 2**20  # the source makes one of them


def test_the_repr_holds_no_filename() -> None:
    with accept(Upload(b"abc", "secret.txt"), ANY) as accepted:
        assert "secret" not in repr(accepted)


def test_a_source_that_changes_after_a_validator_read_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")

    def swap(candidate: Candidate) -> None:
        with candidate.open() as stream:
            stream.read()
        path.write_bytes(b"<script>x()</script>")

    policy = StoragePolicy("images", "local", content_types=("image/*",), validators=(swap,))
    with pytest.raises(InvalidUploadError, match=r"'a\.png' changed"), accept(Upload(path), policy):
        pass
