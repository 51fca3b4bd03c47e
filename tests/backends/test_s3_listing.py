from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from granite_storage.backends import s3_listing
from granite_storage.backends.base import ObjectInfo
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError
from granite_storage.testing.suite.sources import ref_to

pytestmark = pytest.mark.s3_servers("moto", "rgw")

Answer = dict[str, Any]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_listing, "_PAGE", 10)  # in place of 1000


def _put(backend: S3StorageBackend, client: Any, *keys: str) -> list[str]:
    for key in keys:
        client.put_object(Bucket=backend.bucket, Key=key, Body=key.encode())
    return list(keys)


def _put_many(backend: S3StorageBackend, client: Any, count: int) -> list[str]:
    return _put(backend, client, *(f"docs/{number:05}" for number in range(count)))


def test_many_are_listed_in_few_requests(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], small_pages: None
) -> None:
    locations = _put_many(s3, s3_client, 25)
    requests.clear()
    assert list(s3.iter_locations("docs")) == locations
    assert requests == ["ListObjectsV2"] * 3
    assert [info.location for info in s3.iter_objects("docs", start_after=locations[4])] == locations[5:]


def test_a_listing_asks_for_a_page_when_it_is_needed(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], small_pages: None
) -> None:
    _put_many(s3, s3_client, 25)
    requests.clear()
    listing = s3.iter_locations()
    assert requests == []
    assert next(listing) == "docs/00000"
    assert requests == ["ListObjectsV2"]


def test_other_programs_keys_that_are_no_locations_are_not_listed(s3: S3StorageBackend, s3_client: Any) -> None:
    _put(s3, s3_client, "docs/", "docs//a", "/a", "docs/../a", ".incoming/a", "docs/a")
    assert list(s3.iter_locations()) == ["docs/a"]


def test_a_listing_is_what_boto3_lists(s3: S3StorageBackend, s3_client: Any) -> None:
    names = ("plain", "a b", "a+b", "a%2Bb", "a&amp;<b>'\"", " ends ", "é", "\x85", "\u2028", "\ufffd", "\ufffe", "😀")
    _put(s3, s3_client, *(f"docs/{name}.bin" for name in names))
    expected = [
        ObjectInfo(one["Key"], one["Size"], one["LastModified"])
        for page in s3_client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket)
        for one in page["Contents"]
    ]
    assert len(expected) == len(names)
    found = list(s3.iter_objects())
    assert found == expected
    assert all(one.modified.tzname() == "UTC" for one in found)
    for name in names:  # not in a batch, as the test's end would do it: XML cannot carry one of them
        s3.delete(ref_to(s3, f"docs/{name}.bin"))


def test_an_answer_that_no_server_gave_is_listed_as_well(s3: S3StorageBackend, s3_client: Any) -> None:
    _put(s3, s3_client, "docs/a", "docs/b")
    answer = s3_client.list_objects_v2(Bucket=s3.bucket)
    with Stubber(s3_client) as stub:
        stub.add_response("list_objects_v2", answer)
        assert list(s3.iter_locations()) == ["docs/a", "docs/b"]


def test_other_requests_of_the_client_get_whole_answers(s3: S3StorageBackend, s3_client: Any) -> None:
    _put(s3, s3_client, "docs/a")
    assert list(s3.iter_locations()) == ["docs/a"]
    [found] = s3_client.list_objects_v2(Bucket=s3.bucket)["Contents"]
    assert (found["Key"], found["Size"]) == ("docs/a", 6)
    assert isinstance(s3_client.get_object(Bucket=s3.bucket, Key="docs/a")["Body"], StreamingBody)


def test_what_a_server_lists_beyond_what_it_was_asked_for_is_not_given(s3: S3StorageBackend, s3_client: Any) -> None:
    def ask_for_all(params: dict[str, Any], **_: Any) -> None:
        params.pop("Prefix")
        params.pop("StartAfter", None)

    s3_client.meta.events.register("before-parameter-build.s3.ListObjectsV2", ask_for_all)
    live = S3StorageBackend(bucket=s3.bucket, prefix="live", client=s3_client)
    _put(s3, s3_client, "docs/a", "live-old/docs/a", "live/docs-old/a", "live/docs/a", "live/docs/b", "lived/ocs/a")
    assert list(live.iter_locations("docs")) == ["docs/a", "docs/b"]
    assert [one.location for one in live.iter_objects("docs", start_after="docs/a")] == ["docs/b"]


def test_a_listing_goes_on_by_the_token_alone(s3: S3StorageBackend, s3_client: Any, small_pages: None) -> None:
    locations = _put_many(s3, s3_client, 25)
    asked: list[tuple[bool, bool]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(("StartAfter" in params, "ContinuationToken" in params))

    s3_client.meta.events.register("before-parameter-build.s3.ListObjectsV2", note)
    assert [info.location for info in s3.iter_objects(start_after=locations[2])] == locations[3:]
    assert asked == [(True, False), (False, True), (False, True)]


def test_a_listing_out_of_order_is_an_error_where_order_counts(
    s3: S3StorageBackend, s3_client: Any, rewritten: Callable[..., None]
) -> None:
    _put(s3, s3_client, "docs/a", "docs/b")
    rewritten(lambda body: body.replace(b"docs/a<", b"docs/c<").replace(b"docs%2Fa<", b"docs%2Fc<"))
    assert list(s3.iter_locations()) == ["docs/c", "docs/b"]
    with pytest.raises(BackendError, match="lists 'docs/b' after 'docs/c', which is not byte order"):
        list(s3.iter_objects())


@pytest.mark.parametrize("tokens", [[None], ["same", "same"]])
def test_a_listing_that_cannot_go_on_is_an_error(
    s3: S3StorageBackend, s3_client: Any, tokens: list[str | None]
) -> None:
    _put(s3, s3_client, "docs/a")
    left = list(tokens)

    def truncate(parsed: Answer, **_: Any) -> None:
        parsed |= {"IsTruncated": True, "NextContinuationToken": left.pop(0)}

    s3_client.meta.events.register("after-call.s3.ListObjectsV2", truncate)
    s3_client.meta.events.register(
        "before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.pop("ContinuationToken", None)
    )
    with pytest.raises(BackendError, match="does not say how it goes on"):
        list(s3.iter_locations())
    assert left == []


def test_an_entry_without_a_size_is_an_error(
    s3: S3StorageBackend, s3_client: Any, rewritten: Callable[..., None]
) -> None:
    _put(s3, s3_client, "docs/a")
    rewritten(lambda body: body.replace(b"<Size>6</Size>", b""))
    with pytest.raises(BackendError, match="with the size ''"):
        list(s3.iter_locations())
