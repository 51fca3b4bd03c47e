"""Own checks of a policy."""

from __future__ import annotations

from typing import Any

import pytest

from granite_storage.exceptions import ChecksumMismatchError, ContentTooLargeError, ValidationError
from granite_storage.intake import Candidate, Upload, accept
from granite_storage.policies import StoragePolicy
from tests.intake.sources import Endless, OneShot

CONTENT = b"0123456789" * 2000


def checked(*validators: Any, upload: Upload | None = None, **options: Any) -> bytes:
    policy = StoragePolicy("notes", "local", validators=validators, **options)
    with accept(upload or Upload(CONTENT, "a.txt"), policy) as accepted:
        return accepted.stream.read()


def test_a_validator_sees_what_is_known_before_anything_is_stored() -> None:
    seen: list[Candidate] = []
    assert checked(seen.append) == CONTENT
    (candidate,) = seen
    assert (candidate.filename, candidate.content_type, candidate.size) == ("a.txt", "text/plain", len(CONTENT))
    assert candidate.head == CONTENT[:8192]
    assert candidate.policy.storage_key == "notes"


def test_the_size_is_none_where_the_source_does_not_tell() -> None:
    seen: list[Candidate] = []
    checked(seen.append, upload=Upload(OneShot(CONTENT, 1000)))
    checked(seen.append, upload=Upload(OneShot(b"short", 1000)))  # shorter than the head that was read
    assert [candidate.size for candidate in seen] == [None, 5]


@pytest.mark.parametrize("source", [CONTENT, OneShot(CONTENT, 1000)], ids=["rereadable", "one-shot"])
def test_a_validator_reads_the_content_as_often_as_it_likes_and_all_of_it_is_stored(source: Any) -> None:
    reads: list[bytes] = []

    def read_twice(candidate: Candidate) -> None:
        for _ in range(2):
            with candidate.open() as stream:
                reads.append(stream.read())

    assert checked(read_twice, read_twice, upload=Upload(source)) == CONTENT
    assert reads == [CONTENT] * 4


def test_a_validator_that_reads_a_little_does_not_lose_it() -> None:
    def read_a_little(candidate: Candidate) -> None:
        with candidate.open() as stream:
            assert stream.read(5) == b"01234"
            stream.seek(0)

    assert checked(read_a_little, upload=Upload(OneShot(CONTENT, 10))) == CONTENT


def test_buffering_for_a_validator_stops_at_the_limit() -> None:
    source = Endless()
    with pytest.raises(ContentTooLargeError, match="max_size of policy 'notes'"):
        checked(lambda candidate: candidate.open().__enter__(), upload=Upload(source), max_size=100_000)
    assert source.given == 100_001


def test_a_refusal_comes_through_as_it_is() -> None:
    refusal = ValidationError("drafts are not accepted")

    def refuse(candidate: Candidate) -> None:
        raise refusal

    with pytest.raises(ValidationError) as caught:
        checked(refuse)
    assert caught.value is refusal


def test_another_storage_error_comes_through_as_it_is() -> None:
    def refuse(candidate: Candidate) -> None:
        raise ChecksumMismatchError("no")

    with pytest.raises(ChecksumMismatchError):
        checked(refuse)


def test_any_other_exception_is_a_refusal_with_its_cause() -> None:
    def must_be_an_image(candidate: Candidate) -> None:
        raise OSError("cannot identify image file")

    with pytest.raises(ValidationError) as caught:
        checked(must_be_an_image)
    assert isinstance(caught.value.__cause__, OSError)
    for part in ("'a.txt'", "must_be_an_image", "policy 'notes'", "cannot identify image file"):
        assert part in str(caught.value)


def test_a_validator_may_be_any_callable_and_its_error_may_be_mute() -> None:
    class Check:
        def __call__(self, candidate: Candidate) -> None:
            assert candidate.size == 0

    with pytest.raises(ValidationError, match=r"validator .*Check of policy 'notes'"):
        checked(Check())


def test_validators_are_asked_in_order_and_the_first_refusal_ends_it() -> None:
    asked: list[str] = []

    def first(candidate: Candidate) -> None:
        asked.append("first")
        raise ValidationError("no")

    with pytest.raises(ValidationError):
        checked(first, lambda candidate: asked.append("second"))
    assert asked == ["first"]


def test_a_validator_is_not_asked_about_what_the_policy_refuses_anyway() -> None:
    asked: list[Candidate] = []
    with pytest.raises(ContentTooLargeError):
        checked(asked.append, max_size=1)
    assert asked == []


def test_the_repr_of_a_candidate_holds_neither_filename_nor_content() -> None:
    seen: list[Candidate] = []
    checked(seen.append, upload=Upload(b"secret", "secret.txt"))
    assert "secret" not in repr(seen[0])
