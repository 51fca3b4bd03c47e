from __future__ import annotations

import ssl
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.registry import backend_from_url
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, InvalidLocationError, ObjectNotFoundError
from granite_storage.testing.suite import BackendSuite
from granite_storage.testing.suite.deleting import DeletingSuite
from granite_storage.testing.suite.listing import ListingSuite
from granite_storage.testing.suite.refusing import RefusingSuite
from granite_storage.testing.suite.sources import ref_to
from tests.conftest import Bucket
from tests.s3_servers import S3Server


class _OnAServer(BackendSuite):
    @pytest.fixture
    def backend(self, s3_bucket: Bucket, s3_server: S3Server) -> Any:
        self.trusting = ssl.create_default_context(cafile=s3_server.ca_bundle)
        made = backend_from_url(s3_bucket.url())
        made.delete(made.put_bytes(key="first", content=b""))  # so that it knows which abilities the server has
        return made


@pytest.mark.s3_servers("moto", "rgw", "rgw_tls")
class TestS3StorageBackend(_OnAServer):
    pass


@pytest.mark.s3_servers("rclone")
class TestS3StorageBackendOnFolders(_OnAServer):
    """rclone's objects are files, and where a folder is it refuses to delete instead of finding nothing there."""

    def test_a_delete_leaves_the_neighbours(self, backend: Any) -> None:
        for location in ("suite/a", "suite/aa", "suite/b/a"):
            backend.put_bytes(key=location, content=b"x")
        backend.delete(ref_to(backend, "suite/a"))
        with pytest.raises(BackendError):
            backend.delete(ref_to(backend, "suite/b"))
        assert sorted(backend.iter_locations()) == ["suite/aa", "suite/b/a"]


class TestS3StorageBackendBelowAPrefix(ListingSuite, DeletingSuite, RefusingSuite):
    """Beside it in the bucket are objects that it must not see."""

    @pytest.fixture
    def backend(self, s3_bucket: Any, s3_client: Any) -> S3StorageBackend:
        for key in ("live-old/a", "live.txt", "live", "a", "lives/docs/a"):
            s3_client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"another's")
        return S3StorageBackend(bucket=s3_bucket.name, prefix="/live/", client=s3_client)


def test_a_ref_tells_the_bucket(s3: S3StorageBackend) -> None:
    ref = s3.put_bytes(key="a", content=b"x", extra={"bucket": "mine", "project": 7})
    assert ref.extra == {"bucket": s3.bucket, "project": 7}


def test_locations_are_relative_to_the_prefix(s3_bucket: Any, s3_client: Any) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, prefix="live/eu", client=s3_client)
    ref = backend.put_bytes(key="docs/a", content=b"x")
    assert ref.location == "docs/a"
    keys = [found["Key"] for found in s3_client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]]
    assert keys == ["live/eu/docs/a"]


def test_content_type_and_further_arguments_go_with_the_object(s3_bucket: Any, s3_client: Any) -> None:
    backend = S3StorageBackend(
        bucket=s3_bucket.name, client=s3_client, extra_put_kwargs={"CacheControl": "max-age=60", "ContentType": "x/y"}
    )
    for location, size in (("small", 10), ("large", 9_000_000)):
        backend.put_bytes(key=location, content=bytes(size), content_type="text/csv")
        head = s3_client.head_object(Bucket=s3_bucket.name, Key=location)
        assert (head["ContentType"], head["CacheControl"]) == ("text/csv", "max-age=60")
    backend.put_bytes(key="untyped", content=b"x")
    assert s3_client.head_object(Bucket=s3_bucket.name, Key="untyped")["ContentType"] == "x/y"


def test_a_copy_keeps_or_takes_a_content_type(s3: S3StorageBackend, s3_client: Any) -> None:
    ref = s3.put_bytes(key="a", content=b"x", content_type="text/csv")
    s3.copy(ref, key="kept")
    s3.copy(ref, key="changed", content_type="text/plain")
    types = [s3_client.head_object(Bucket=s3.bucket, Key=key)["ContentType"] for key in ("kept", "changed")]
    assert types == ["text/csv", "text/plain"]


def test_a_key_too_long_with_its_prefix_is_no_location(s3_bucket: Any, s3_client: Any) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, prefix="x" * 100, client=s3_client)
    location = "/".join(["y" * 100] * 10)
    for act in (
        lambda: backend.put_bytes(key=location, content=b"x"),
        lambda: backend.get(ref_to(backend, location)),
        lambda: backend.exists(ref_to(backend, location)),
    ):
        with pytest.raises(InvalidLocationError, match="prefix"):
            act()


def test_without_conditional_writes_no_promise_is_made(s3_bucket: Any, s3_client: Any, requests: list[str]) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, conditional_writes=False)
    assert not has_ability(backend, Ability.NO_OVERWRITE)
    for size in (5, 9_000_000):
        backend.put_bytes(key="a", content=bytes(size))
    assert backend.stat(ref_to(backend, "a")).size == 9_000_000
    backend.copy(backend.put_bytes(key="b", content=b"new"), key="a")
    assert backend.get(ref_to(backend, "a")) == b"new"


def test_a_url_makes_a_backend_that_works(s3_bucket: Any) -> None:
    backend = backend_from_url(s3_bucket.url("live"))
    ref = backend.put_bytes(key="docs/a", content=b"hello")
    assert backend.get(ref) == b"hello"
    assert s3_bucket.client.head_object(Bucket=s3_bucket.name, Key="live/docs/a")["ContentLength"] == 5


def test_neither_bucket_nor_secret_of_a_url_is_lost_or_shown() -> None:
    backend = backend_from_url("s3://AKIA:hid%2Fden@my-bucket/live/?region=eu-west-1")
    assert repr(backend) == "S3StorageBackend(bucket='my-bucket', prefix='live')"


def test_deleting_where_the_server_says_not_found_does_nothing(s3: S3StorageBackend, s3_client: Any) -> None:
    def not_found(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "gone"}}, "DeleteObject")

    s3_client.meta.events.register("before-call.s3.DeleteObject", not_found)
    s3.delete(ref_to(s3, "missing"))


def test_a_missing_object_names_location_and_bucket(s3: S3StorageBackend) -> None:
    with pytest.raises(ObjectNotFoundError, match=f"'docs/a' in bucket '{s3.bucket}'"):
        s3.get(ref_to(s3, "docs/a"))
