"""Multipart uploads that nobody will complete are aborted: those below the prefix, and only old ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError

TOMORROW = datetime.now(UTC) + timedelta(days=1)
NOON = datetime(2024, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def live(s3: S3StorageBackend, s3_client: Any) -> S3StorageBackend:
    """A backend below a prefix, ``live``."""
    return S3StorageBackend(bucket=s3.bucket, prefix="live", client=s3_client)


def _begin(client: Any, bucket: str, *keys: str) -> None:
    for key in keys:
        client.create_multipart_upload(Bucket=bucket, Key=key)


def _unfinished(client: Any, bucket: str) -> list[str]:
    return sorted(found["Key"] for found in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))


def test_the_ability_is_declared(s3: S3StorageBackend) -> None:
    assert has_ability(s3, Ability.LEFTOVERS)


def test_unfinished_uploads_below_the_prefix_are_aborted(live: S3StorageBackend, s3_client: Any) -> None:
    ref = live.put_bytes(key="docs/a", content=b"x")
    _begin(s3_client, live.bucket, "live/docs/a", "live/docs/b", "live-old/docs/a", "docs/a", "livea")
    assert live.remove_leftovers(TOMORROW, dry_run=True) == 2
    assert len(_unfinished(s3_client, live.bucket)) == 5
    assert live.remove_leftovers(TOMORROW) == 2
    assert _unfinished(s3_client, live.bucket) == ["docs/a", "live-old/docs/a", "livea"]
    assert live.remove_leftovers(TOMORROW) == 0
    assert live.get(ref) == b"x"


def test_uploads_that_began_later_go_on(s3: S3StorageBackend, s3_client: Any) -> None:
    _begin(s3_client, s3.bucket, "docs/a", "docs/b")

    def tell_times(parsed: dict[str, Any], **_: Any) -> None:  # moto says that each began in 2010
        for found in parsed.get("Uploads", ()):
            found["Initiated"] = NOON if found["Key"] == "docs/a" else NOON - timedelta(seconds=1)

    s3_client.meta.events.register("after-call.s3.ListMultipartUploads", tell_times)
    assert s3.remove_leftovers(NOON) == 1
    assert _unfinished(s3_client, s3.bucket) == ["docs/a"]


def test_other_programs_keys_that_are_no_locations_are_left_alone(s3: S3StorageBackend, s3_client: Any) -> None:
    _begin(s3_client, s3.bucket, "docs//a", ".incoming/a", "docs/")
    assert s3.remove_leftovers(TOMORROW) == 0
    assert len(_unfinished(s3_client, s3.bucket)) == 3


def test_a_server_that_lists_more_than_it_was_asked_for_costs_nobody_an_upload(
    live: S3StorageBackend, s3_client: Any
) -> None:
    _begin(s3_client, live.bucket, "docs/a")

    def ask_for_all(params: dict[str, Any], **_: Any) -> None:
        params.pop("Prefix", None)

    s3_client.meta.events.register("before-parameter-build.s3.ListMultipartUploads", ask_for_all)
    assert live.remove_leftovers(TOMORROW) == 0
    assert _unfinished(s3_client, live.bucket) == ["docs/a"]


def test_more_than_a_page_of_uploads_is_aborted(s3: S3StorageBackend, s3_client: Any, requests: list[str]) -> None:
    _begin(s3_client, s3.bucket, *(f"docs/{number}" for number in range(5)))
    uploads = s3_client.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]
    asked: list[tuple[Any, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append((params.get("KeyMarker"), params.get("UploadIdMarker")))

    def page(parsed: dict[str, Any], **_: Any) -> None:  # moto gives them all at once
        begin = 2 * (len(asked) - 1)
        parsed["Uploads"], parsed["IsTruncated"] = uploads[begin : begin + 2], begin + 2 < len(uploads)
        last = parsed["Uploads"][-1]
        parsed["NextKeyMarker"], parsed["NextUploadIdMarker"] = last["Key"], last["UploadId"]

    s3_client.meta.events.register("before-parameter-build.s3.ListMultipartUploads", note)
    s3_client.meta.events.register("after-call.s3.ListMultipartUploads", page)
    requests.clear()
    assert s3.remove_leftovers(TOMORROW) == 5
    assert requests.count("ListMultipartUploads") == 3
    assert asked == [(None, None), *((uploads[at]["Key"], uploads[at]["UploadId"]) for at in (1, 3))]


@pytest.mark.parametrize("markers", [{}, {"NextKeyMarker": "docs/a", "NextUploadIdMarker": "same"}])
def test_a_listing_of_uploads_that_cannot_go_on_is_an_error(
    s3: S3StorageBackend, s3_client: Any, markers: dict[str, str]
) -> None:
    def truncate(parsed: dict[str, Any], **_: Any) -> None:
        parsed |= {"IsTruncated": True, "NextKeyMarker": None, "NextUploadIdMarker": None, **markers}

    s3_client.meta.events.register("after-call.s3.ListMultipartUploads", truncate)
    with pytest.raises(BackendError, match="does not say how it goes on"):
        s3.remove_leftovers(TOMORROW)


def test_an_upload_that_ends_meanwhile_is_no_error(s3: S3StorageBackend, s3_client: Any, on_request: Any) -> None:
    _begin(s3_client, s3.bucket, "docs/a")
    [upload] = s3_client.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]
    ended: list[bool] = []

    def end(params: Any) -> None:
        if not ended:
            ended.append(True)
            s3_client.abort_multipart_upload(Bucket=s3.bucket, Key="docs/a", UploadId=upload["UploadId"])

    on_request("AbortMultipartUpload", end)
    assert s3.remove_leftovers(TOMORROW) == 1


def test_what_the_server_refuses_is_a_backend_error(s3_client: Any) -> None:
    missing = S3StorageBackend(bucket="no-such-bucket-here", client=s3_client)
    with pytest.raises(BackendError, match="NoSuchBucket"):
        missing.remove_leftovers(TOMORROW)


def test_only_uploads_into_the_folders_that_are_named_are_aborted(live: S3StorageBackend, s3_client: Any) -> None:
    root = live._keys.root
    _begin(s3_client, live.bucket, f"{root}docs/a", f"{root}docs-old/a", f"{root}theirs/a")
    assert live.remove_leftovers(TOMORROW, prefixes=["docs"], dry_run=True) == 1
    assert live.remove_leftovers(TOMORROW, prefixes=["docs"]) == 1
    assert _unfinished(s3_client, live.bucket) == [f"{root}docs-old/a", f"{root}theirs/a"]


def test_a_server_that_lists_no_unfinished_uploads_is_an_error_with_its_remedy(
    s3: S3StorageBackend, on_request: Any
) -> None:
    def refuse(params: Any) -> None:
        told: Any = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
        raise ClientError(told, "ListMultipartUploads")

    on_request("ListMultipartUploads", refuse)
    with pytest.raises(BackendError, match="leftovers=false"):
        s3.remove_leftovers(TOMORROW)


@pytest.mark.s3_servers("moto", "rgw", "rclone")
def test_where_nothing_is_unfinished_nothing_is_aborted(s3: S3StorageBackend, s3_client: Any) -> None:
    assert s3.remove_leftovers(TOMORROW) == 0
    _begin(s3_client, s3.bucket, "docs/a")
    assert s3.remove_leftovers(TOMORROW) == 1
    assert s3.remove_leftovers(TOMORROW) == 0
