from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends import s3_batches
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError
from granite_storage.testing.suite.sources import ref_to


def _put(backend: S3StorageBackend, client: Any, count: int) -> list[str]:
    locations = [f"docs/{number:05}" for number in range(count)]
    for location in locations:
        client.put_object(Bucket=backend.bucket, Key=location, Body=b"x")
    return locations


def test_many_are_listed_and_deleted_in_few_requests(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_batches, "_BATCH", 10)  # in place of 1000
    locations = _put(s3, s3_client, 25)
    requests.clear()
    assert list(s3.iter_locations("docs")) == locations
    assert requests == ["ListObjectsV2"] * 3
    assert [info.location for info in s3.iter_objects("docs", start_after=locations[4])] == locations[5:]
    requests.clear()
    assert s3.delete_many([ref_to(s3, location) for location in [*locations, "docs/missing"]]) == []
    assert requests == ["DeleteObjects"] * 3
    assert list(s3.iter_locations()) == []


def test_a_listing_asks_for_a_page_when_it_is_needed(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_batches, "_BATCH", 10)
    _put(s3, s3_client, 25)
    requests.clear()
    listing = s3.iter_locations()
    assert requests == []
    assert next(listing) == "docs/00000"
    assert requests == ["ListObjectsV2"]


def test_other_programs_keys_that_are_no_locations_are_not_listed(s3: S3StorageBackend, s3_client: Any) -> None:
    for key in ("docs/", "docs//a", "/a", "docs/../a", ".incoming/a", "docs/a"):
        s3_client.put_object(Bucket=s3.bucket, Key=key, Body=b"")
    assert list(s3.iter_locations()) == ["docs/a"]


def test_what_the_server_refuses_to_delete_is_told_one_by_one(s3: S3StorageBackend, s3_client: Any) -> None:
    locations = _put(s3, s3_client, 3)
    refs = [ref_to(s3, location) for location in locations]

    def refuse(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Errors"] = [
            {"Key": locations[1], "Code": "AccessDenied", "Message": "locked"},
            {"Key": locations[2], "Code": "NoSuchKey", "Message": "gone"},
        ]

    s3_client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    [failure] = s3.delete_many(refs)
    assert failure.ref == refs[1]
    assert isinstance(failure.error, BackendError)
    assert "AccessDenied (locked)" in str(failure.error)


def test_a_batch_that_fails_does_not_keep_the_next(
    s3: S3StorageBackend, s3_client: Any, on_request: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_batches, "_BATCH", 2)
    refs = [ref_to(s3, location) for location in _put(s3, s3_client, 5)]
    batches: list[Any] = []

    def refuse_first(params: Any) -> None:
        batches.append(params)
        if len(batches) == 1:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "DeleteObjects")

    on_request("DeleteObjects", refuse_first)
    failures = s3.delete_many(refs)
    assert [failure.ref for failure in failures] == refs[:2]
    assert all(isinstance(failure.error, BackendError) for failure in failures)
    assert list(s3.iter_locations()) == [ref.location for ref in refs[:2]]
