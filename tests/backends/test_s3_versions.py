from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ObjectNotFoundError
from granite_storage.testing.suite.sources import ref_to

pytestmark = pytest.mark.s3_servers("moto", "rgw")


@pytest.fixture
def versioned(s3: S3StorageBackend, s3_client: Any) -> S3StorageBackend:
    """The backend of the fixture ``s3``, whose bucket keeps versions now."""
    s3_client.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    return s3


@pytest.fixture
def purging(versioned: S3StorageBackend, s3_client: Any) -> S3StorageBackend:
    return S3StorageBackend(bucket=versioned.bucket, client=s3_client, versions="purge")


def _kept(backend: S3StorageBackend, client: Any) -> list[tuple[str, str]]:
    """All that the bucket keeps: keys, each a version or a marker."""
    page = client.list_object_versions(Bucket=backend.bucket)
    return sorted(
        (found["Key"], kind)
        for member, kind in (("Versions", "version"), ("DeleteMarkers", "marker"))
        for found in page.get(member, ())
    )


def _put(backend: S3StorageBackend, client: Any, key: str, *contents: bytes) -> None:
    for content in contents:
        client.put_object(Bucket=backend.bucket, Key=key, Body=content)


def test_by_default_a_versioned_bucket_keeps_what_is_deleted(versioned: S3StorageBackend, s3_client: Any) -> None:
    refs = [versioned.put_bytes(key=f"docs/{name}", content=b"x") for name in "ab"]
    versioned.delete(refs[0])
    assert versioned.delete_many(refs[1:]) == []
    assert list(versioned.iter_locations()) == []
    assert not versioned.exists(refs[0])
    with pytest.raises(ObjectNotFoundError):
        versioned.get(refs[1])
    assert _kept(versioned, s3_client) == [(ref.location, kind) for ref in refs for kind in ("marker", "version")]


def test_purging_leaves_nothing_of_a_key(
    purging: S3StorageBackend, versioned: S3StorageBackend, s3_client: Any
) -> None:
    for key in ("docs/a", "docs/b", "docs/c"):
        _put(purging, s3_client, key, b"1", b"2")
    versioned.delete(ref_to(versioned, "docs/a"))
    versioned.delete(ref_to(versioned, "docs/b"))
    _put(purging, s3_client, "docs/b", b"3")
    assert purging.delete_many([ref_to(purging, "docs/a"), ref_to(purging, "docs/b")]) == []
    purging.delete(ref_to(purging, "docs/c"))
    purging.delete(ref_to(purging, "docs/missing"))
    assert _kept(purging, s3_client) == []


def test_purging_leaves_the_neighbours(purging: S3StorageBackend, s3_client: Any) -> None:
    neighbours = ["docs/a-b", "docs/a/b", "docs/aa", "docs/b"]
    for key in ("docs/a", *neighbours):
        _put(purging, s3_client, key, b"x")
    purging.delete(ref_to(purging, "docs/a"))
    assert purging.delete_many([ref_to(purging, "docs/a")]) == []
    assert _kept(purging, s3_client) == [(key, "version") for key in neighbours]


def test_an_ordinary_bucket_is_purged_as_well(s3_bucket: Any, s3_client: Any) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, versions="purge")
    refs = [backend.put_bytes(key=f"docs/{name}", content=b"x") for name in "abc"]
    backend.delete(refs[0])
    assert backend.delete_many(refs[1:]) == []
    assert list(backend.iter_locations()) == []


def test_purging_deletes_in_batches(purging: S3StorageBackend, s3_client: Any, requests: list[str]) -> None:
    refs = [purging.put_bytes(key=f"docs/{number}", content=b"x") for number in range(20)]
    requests.clear()
    assert purging.delete_many(refs) == []
    assert sorted(requests) == ["DeleteObjects"] + ["ListObjectVersions"] * 20


def test_versions_beyond_a_page_are_purged(purging: S3StorageBackend, s3_client: Any, requests: list[str]) -> None:
    _put(purging, s3_client, "docs/a", b"1", b"2", b"3", b"4", b"5")
    _put(purging, s3_client, "docs/a-b", b"1", b"2")
    s3_client.meta.events.register(
        "before-parameter-build.s3.ListObjectVersions", lambda params, **_: params.update(MaxKeys=2)
    )
    requests.clear()
    purging.delete(ref_to(purging, "docs/a"))
    assert requests.count("ListObjectVersions") == 3
    s3_client.meta.events.unregister("before-parameter-build.s3.ListObjectVersions")
    assert {key for key, _ in _kept(purging, s3_client)} == {"docs/a-b"}


def test_a_locked_version_is_told_and_no_older_content_shows(s3_bucket: Any, s3_client: Any) -> None:
    bucket = s3_bucket.name
    s3_client.delete_bucket(Bucket=bucket)  # only a new one can have locks
    s3_client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    purging = S3StorageBackend(bucket=bucket, client=s3_client, versions="purge")
    until = datetime.now(UTC) + timedelta(days=1)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
    s3_client.put_object(Bucket=bucket, Key="docs/a", Body=b"locked", **lock)
    _put(purging, s3_client, "docs/a", b"newer")
    _put(purging, s3_client, "docs/b", b"x")
    refs = [ref_to(purging, "docs/a"), ref_to(purging, "docs/b")]
    [failure] = purging.delete_many(refs)
    assert failure.ref == refs[0]
    assert isinstance(failure.error, BackendError)
    assert "'docs/a' in bucket" in str(failure.error)
    assert "AccessDenied" in str(failure.error)
    assert not purging.exists(refs[0])
    assert _kept(purging, s3_client) == [("docs/a", "marker"), ("docs/a", "version")]
    with pytest.raises(BackendError, match="AccessDenied"):
        purging.delete(refs[0])
    assert _kept(purging, s3_client) == [("docs/a", "marker"), ("docs/a", "version")], "another marker was added"
    [kept] = s3_client.list_object_versions(Bucket=bucket)["Versions"]
    s3_client.delete_object(Bucket=bucket, Key="docs/a", VersionId=kept["VersionId"], BypassGovernanceRetention=True)


def test_a_key_whose_versions_cannot_be_listed_is_left_and_told(
    purging: S3StorageBackend, s3_client: Any, on_request: Callable[..., None]
) -> None:
    refs = [purging.put_bytes(key=f"docs/{name}", content=b"x") for name in "ab"]

    def refuse(params: Any) -> None:
        if params["query_string"].get("prefix") == "docs/a":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectVersions")

    on_request("ListObjectVersions", refuse)
    [failure] = purging.delete_many(refs)
    assert failure.ref == refs[0]
    assert isinstance(failure.error, BackendError)
    assert _kept(purging, s3_client) == [("docs/a", "version")]
