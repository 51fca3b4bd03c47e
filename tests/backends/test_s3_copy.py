from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends import s3_copy
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_copy import copy_object
from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError
from granite_storage.testing.suite.sources import content_of, ref_to
from tests.conftest import Bucket
from tests.s3_servers import remove_bucket

PART = 5 * 1024**2
LARGE = 2 * PART + 1


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of more than a part go in parts of 5 MiB, in place of 256 MiB above 1 GiB."""
    monkeypatch.setattr(s3_copy, "COPY_IN_PARTS", PART)
    monkeypatch.setattr(s3_copy, "_PART_SIZE", PART)


def _uploads(backend: S3StorageBackend, client: Any) -> list[str]:
    return [found["Key"] for found in client.list_multipart_uploads(Bucket=backend.bucket).get("Uploads", ())]


def test_a_large_copy_goes_in_parts_and_no_byte_comes_here(
    s3: S3StorageBackend, in_parts: None, requests: list[str]
) -> None:
    ref = s3.put_bytes(key="a", content=content_of(LARGE))
    requests.clear()
    s3.copy(ref, key="b")
    assert requests.count("UploadPartCopy") == 3
    assert not {"GetObject", "CopyObject", "UploadPart"} & set(requests)
    assert s3.get(ref_to(s3, "b")) == content_of(LARGE)


def test_a_copy_of_the_border_is_one_request(s3: S3StorageBackend, in_parts: None, requests: list[str]) -> None:
    ref = s3.put_bytes(key="a", content=content_of(PART))
    s3.copy(ref, key="b")
    assert "UploadPartCopy" not in requests
    assert s3.get(ref_to(s3, "b")) == content_of(PART)


def test_parts_of_a_copy_grow_so_that_they_are_not_too_many(
    s3: S3StorageBackend, in_parts: None, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_copy, "MAX_PARTS", 2)
    s3.copy(s3.put_bytes(key="a", content=content_of(LARGE)), key="b")
    assert requests.count("UploadPartCopy") == 2
    assert s3.get(ref_to(s3, "b")) == content_of(LARGE)


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_copy_says_the_same_of_itself_in_parts_as_in_one(
    s3_bucket: Any, s3_client: Any, in_parts: None, size: int
) -> None:
    given = {"CacheControl": "max-age=60", "Metadata": {"project": "x"}, "Tagging": "team=a%3Db&x=y"}
    source = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, extra_put_kwargs=given)
    ref = source.put_bytes(key="a", content=content_of(size), content_type="text/csv")
    backend = S3StorageBackend(
        bucket=s3_bucket.name,
        client=s3_client,
        extra_put_kwargs={"ContentLanguage": "de", "StorageClass": "STANDARD_IA"},
    )
    backend.copy(ref, key="kept")
    backend.copy(ref, key="replaced", content_type="text/plain")
    said = ("ContentType", "CacheControl", "ContentLanguage", "StorageClass")
    for key, kind in (("kept", "text/csv"), ("replaced", "text/plain")):
        head = s3_client.head_object(Bucket=s3_bucket.name, Key=key)
        assert [head.get(name) for name in said] == [kind, None, "de", "STANDARD_IA"]
        assert "project" not in head["Metadata"]
        assert s3_client.get_object_tagging(Bucket=s3_bucket.name, Key=key)["TagSet"] == []


@pytest.mark.parametrize(("size", "request_name"), [(10, "CopyObject"), (LARGE, "UploadPartCopy")])
def test_each_request_of_a_copy_is_on_condition_of_the_source(
    s3: S3StorageBackend, s3_client: Any, in_parts: None, on_request: Callable[..., None], size: int, request_name: str
) -> None:
    ref = s3.put_bytes(key="a", content=content_of(size))
    etags: set[str] = set()
    on_request(request_name, lambda params: etags.add(params["headers"]["x-amz-copy-source-if-match"]))
    s3.copy(ref, key="b")
    assert etags == {s3_client.head_object(Bucket=s3.bucket, Key="a")["ETag"]}


@pytest.mark.parametrize(("size", "request_name"), [(10, "CopyObject"), (LARGE, "UploadPartCopy")])
def test_a_change_is_noticed_though_the_server_overlooks_the_condition(
    s3: S3StorageBackend,
    s3_client: Any,
    s3_bucket: Any,
    in_parts: None,
    on_request: Any,
    size: int,
    request_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_copy, "_THREADS", 1)  # moto fails where one request replaces what another reads
    ref = s3.put_bytes(key="a", content=content_of(size))
    on_request(request_name, lambda params: s3_bucket.client.put_object(Bucket=s3.bucket, Key="a", Body=bytes(size)))
    with pytest.raises(BackendError, match="changed while it was copied"):
        s3.copy(ref, key="b")
    assert not s3.exists(ref_to(s3, "b"))
    assert _uploads(s3, s3_client) == []


@pytest.mark.parametrize(("size", "request_name"), [(10, "CopyObject"), (LARGE, "UploadPartCopy")])
def test_a_source_that_changed_meanwhile_is_not_copied(
    s3: S3StorageBackend, s3_client: Any, in_parts: None, on_request: Callable[..., None], size: int, request_name: str
) -> None:
    ref = s3.put_bytes(key="a", content=content_of(size))

    def refuse(params: Any) -> None:  # as a server does that looks at the condition
        raise ClientError({"Error": {"Code": "PreconditionFailed", "Message": "no"}}, request_name)

    on_request(request_name, refuse)
    with pytest.raises(BackendError, match="changed while it was copied"):
        s3.copy(ref, key="b")
    assert not s3.exists(ref_to(s3, "b"))
    assert _uploads(s3, s3_client) == []


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_source_of_another_etag_is_not_copied(
    s3: S3StorageBackend, s3_client: Any, in_parts: None, size: int
) -> None:
    s3.put_bytes(key="a", content=content_of(size))
    source, target = ({"Bucket": s3.bucket, "Key": key} for key in ("a", "b"))
    etag = s3_client.head_object(**source)["ETag"]
    with pytest.raises(BackendError, match="changed"):
        copy_object(s3_client, source, target, {}, location="a", overwrite=False, if_match='"other"')
    assert not s3.exists(ref_to(s3, "b"))
    copied = copy_object(s3_client, source, target, {}, location="a", overwrite=False, if_match=etag)
    assert copied == s3_client.head_object(**target)["ETag"]


def test_a_copy_of_nothing_names_the_source(s3: S3StorageBackend) -> None:
    with pytest.raises(ObjectNotFoundError, match="'missing'"):
        s3.copy(ref_to(s3, "missing"), key="b")


def test_a_large_copy_that_loses_to_another_leaves_no_parts(
    s3: S3StorageBackend, s3_client: Any, s3_bucket: Any, in_parts: None, on_request: Callable[..., None]
) -> None:
    ref = s3.put_bytes(key="a", content=content_of(LARGE))

    def arrive(params: Any) -> None:
        s3_bucket.client.put_object(Bucket=s3.bucket, Key="b", Body=b"early")

    on_request("CompleteMultipartUpload", arrive)
    with pytest.raises(ObjectExistsError):
        s3.copy(ref, key="b")
    assert s3.get(ref_to(s3, "b")) == b"early"
    assert _uploads(s3, s3_client) == []


@pytest.mark.parametrize(("size", "request_name"), [(10, "CopyObject"), (LARGE, "CompleteMultipartUpload")])
def test_an_interrupted_copy_leaves_nothing(
    s3: S3StorageBackend, s3_client: Any, in_parts: None, size: int, request_name: str
) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    ref = s3.put_bytes(key="a", content=content_of(size))
    s3_client.meta.events.register(f"after-call.s3.{request_name}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        s3.copy(ref, key="b")
    assert not s3.exists(ref_to(s3, "b"))
    assert _uploads(s3, s3_client) == []
    assert s3.get(ref) == content_of(size)


@pytest.mark.parametrize("request_name", ["UploadPartCopy", "CompleteMultipartUpload"])
def test_a_large_copy_that_fails_leaves_no_parts(
    s3: S3StorageBackend, s3_client: Any, in_parts: None, on_request: Callable[..., None], request_name: str
) -> None:
    def refuse(params: Any) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, request_name)

    ref = s3.put_bytes(key="a", content=content_of(LARGE))
    on_request(request_name, refuse)
    with pytest.raises(BackendError, match="SlowDown"):
        s3.copy(ref, key="b")
    assert _uploads(s3, s3_client) == []


# From another bucket


@pytest.fixture
def other(s3_bucket: Bucket, s3_client: Any) -> Iterator[S3StorageBackend]:
    """A backend on another bucket of the same server."""
    name = f"{s3_bucket.name[:50]}-other"
    s3_bucket.client.create_bucket(Bucket=name)
    yield S3StorageBackend(bucket=name, prefix="deep/down", client=s3_client)
    if s3_bucket.server.name != "moto":  # which ends soon
        remove_bucket(s3_bucket.client, name)


@pytest.mark.s3_servers("moto", "rgw")
@pytest.mark.parametrize("size", [10, LARGE])
def test_another_bucket_of_the_service_is_copied_from_and_no_byte_comes_here(
    s3: S3StorageBackend, other: S3StorageBackend, s3_client: Any, in_parts: None, requests: list[str], size: int
) -> None:
    ref = other.put_bytes(key="a", content=content_of(size), content_type="text/csv")
    assert s3.copies_from(other)
    requests.clear()
    s3.copy_from(other, ref, key="b", content_type="text/csv")
    assert not {"GetObject", "PutObject", "UploadPart"} & set(requests)
    assert s3.get(ref_to(s3, "b")) == content_of(size) == other.get(ref)
    assert s3_client.head_object(Bucket=s3.bucket, Key="b")["ContentType"] == "text/csv"


def test_what_another_bucket_has_not_cannot_be_copied_from_it(s3: S3StorageBackend, other: S3StorageBackend) -> None:
    ref = s3.put_bytes(key="a", content=b"here, and not there")
    with pytest.raises(ObjectNotFoundError):
        s3.copy_from(other, ref, key="b")
    with pytest.raises(ObjectExistsError):
        s3.copy_from(s3, ref, key="a")
    assert not s3.exists(ref_to(s3, "b"))


def test_another_service_and_a_key_of_the_customers_are_no_matter_of_the_server() -> None:
    here = S3StorageBackend(bucket="one", endpoint_url="http://127.0.0.1:1")
    assert here.copies_from(S3StorageBackend(bucket="two", endpoint_url="http://127.0.0.1:1"))
    assert not here.copies_from(S3StorageBackend(bucket="two", endpoint_url="http://127.0.0.1:2"))
    assert not here.copies_from(S3StorageBackend(bucket="two", client=object()))
    assert not here.copies_from(MemoryStorageBackend())
    secret = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    sealed = S3StorageBackend(bucket="two", endpoint_url="http://127.0.0.1:1", extra_put_kwargs=secret)
    assert not here.copies_from(sealed) and not sealed.copies_from(here)
