"""What browsers uploaded into a bucket: where it waits, how it is copied, and when it is swept."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends import s3_copy, s3_incoming
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, InvalidLocationError, ObjectNotFoundError
from granite_storage.locations import new_location
from tests.conftest import Bucket

MIB = 1024**2
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=2)


@pytest.fixture
def live(s3_bucket: Bucket, s3_client: Any) -> S3StorageBackend:
    """A backend below a prefix, ``live``."""
    return S3StorageBackend(bucket=s3_bucket.name, prefix="live", client=s3_client)


def _put(backend: S3StorageBackend, *keys: str, content: bytes = b"x") -> None:
    for key in keys:
        backend._client().put_object(Bucket=backend.bucket, Key=key, Body=content)


def _keys(backend: S3StorageBackend) -> list[str]:
    found = backend._client().list_objects_v2(Bucket=backend.bucket).get("Contents", ())
    return [one["Key"] for one in found]


def test_uploads_wait_below_the_backends_prefix(live: S3StorageBackend) -> None:
    _put(live, "live/.incoming/docs/a")
    assert live.incoming("docs/a").look().size == 1
    with pytest.raises(ObjectNotFoundError):
        S3StorageBackend(bucket=live.bucket, client=live._client()).incoming("docs/a").look()
    with pytest.raises(InvalidLocationError):
        live.incoming("../docs/a")


def test_only_old_uploads_below_the_prefixes_and_the_root_are_swept(live: S3StorageBackend) -> None:
    mine, other = new_location("docs"), new_location("docs-old")
    kept = [
        f"live/.incoming/{other}",  # another application's, with the same root
        f".incoming/{mine}",  # another root
        f"live2/.incoming/{mine}",
        f"live/{mine}",  # a file
        "live/.incoming/docs/no-uuid",  # another program's
    ]
    _put(live, f"live/.incoming/{mine}", f"live/.incoming/{mine}.claimed", *kept)
    assert live.remove_leftovers(LATER, prefixes=["docs"]) == 2
    assert _keys(live) == sorted(kept)


@pytest.mark.parametrize("lacking", ["leftovers", "ordered_listing"])
def test_they_are_swept_whatever_else_the_server_lacks(
    s3_bucket: Bucket, s3_client: Any, on_request: Any, rewritten: Any, lacking: str
) -> None:
    lame = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, **{lacking: False})  # type: ignore[arg-type]
    _put(lame, *(f".incoming/{new_location('docs')}" for _ in range(3)))
    if lacking == "leftovers":

        def refuse(params: Any) -> None:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "ListMultipartUploads")

        on_request("ListMultipartUploads", refuse)
    else:
        rewritten(
            lambda body: re.sub(rb"(<Contents>.*?</Contents>)(.*)(<Contents>)", rb"\2\1\3", body, flags=re.DOTALL)
        )
    assert lame.remove_leftovers(LATER, prefixes=["docs"]) == 3
    assert _keys(lame) == []


def test_an_upload_is_as_old_as_the_younger_of_its_location_and_the_stores_time(live: S3StorageBackend) -> None:
    hour = timedelta(hours=1)
    for age, swept in ((timedelta(0), 0), (2 * hour, 0)):  # the store says that it is new
        location = new_location("docs", milliseconds=int((NOW - age).timestamp() * 1000))
        _put(live, f"live/.incoming/{location}")
        assert live.remove_leftovers(NOW - hour, prefixes=["docs"]) == swept
    future = new_location("docs", milliseconds=int((LATER + hour).timestamp() * 1000))
    _put(live, f"live/.incoming/{future}")
    assert live.remove_leftovers(LATER) == 2
    assert _keys(live) == [f"live/.incoming/{future}"]


def test_more_than_a_batch_is_swept(live: S3StorageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_incoming, "_BATCH", 2)
    _put(live, *(f"live/.incoming/{new_location('docs')}" for _ in range(5)))
    assert live.remove_leftovers(LATER, dry_run=True) == 5 == len(_keys(live))
    assert live.remove_leftovers(LATER, prefixes=["docs"]) == 5
    assert _keys(live) == []


def test_what_cannot_be_swept_is_told_and_the_rest_goes(
    live: S3StorageBackend, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_incoming, "_BATCH", 1)
    locations = [new_location("docs", milliseconds=1_700_000_000_000 + number) for number in range(3)]
    _put(live, *(f"live/.incoming/{location}" for location in locations))

    def refuse(parsed: dict[str, Any], **_: Any) -> None:
        if not answers.pop():
            parsed["Errors"] = [{"Key": f"live/.incoming/{locations[0]}", "Code": "AccessDenied"}]

    answers = [True, True, False]
    s3_client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    with pytest.raises(BackendError, match="AccessDenied"):
        live.remove_leftovers(LATER)
    assert answers == []


def test_a_large_upload_is_copied_in_parts_and_only_if_it_is_the_same(
    live: S3StorageBackend, requests: list[str], on_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"a" * (11 * MIB)
    for module in (s3_copy, s3_incoming):
        monkeypatch.setattr(module, "COPY_IN_PARTS", 6 * MIB)
    monkeypatch.setattr(s3_copy, "_PART_SIZE", 5 * MIB)
    _put(live, "live/.incoming/docs/a", content=content)
    incoming = live.incoming("docs/a")
    found = incoming.look()
    requests.clear()
    ref = incoming.copy(found, key="docs/b", content_type="text/plain", checksum="sha256")
    assert requests.count("UploadPartCopy") == 3 and "CopyObject" not in requests
    assert ref.checksum == ""  # of parts there would be one of the parts' checksums
    assert live.get(ref) == content and live.stat(ref).size == ref.size
    once = iter([content.upper()])

    def upload_anew(_: Any) -> None:
        for other in once:
            _put(live, "live/.incoming/docs/a", content=other)

    on_request("UploadPartCopy", upload_anew)
    with pytest.raises(BackendError, match="changed"):
        incoming.copy(found, key="docs/c", content_type="text/plain", checksum="sha256")
    assert not live.exists(ref.replace(location="docs/c"))
