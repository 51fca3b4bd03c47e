"""A presigned upload holds the browser to a key, a type and a size, and its token says for whom and for what it is."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from itsdangerous import URLSafeSerializer

from granite_storage import (
    ConfigurationError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidUploadError,
    LocalStorageBackend,
    MemoryStorageBackend,
    NotSupportedError,
    OwnershipError,
    S3StorageBackend,
    StorageManager,
    StoragePolicy,
)
from granite_storage.backends.base import Ability
from granite_storage.backends.incoming import UploadConditions
from tests.browsers import KEY, PNG, Site, send

HOUR = timedelta(hours=1)


@pytest.fixture
def site(s3_bucket: Any) -> Iterator[Site]:
    made = Site(s3_bucket)
    yield made
    made.client.close()


def _conditions(upload: Any) -> list[Any]:
    found: list[Any] = json.loads(base64.b64decode(upload.fields["policy"]))["conditions"]
    return found


def test_a_form_uploads_into_a_place_of_its_own_that_no_listing_shows(site: Site) -> None:
    upload = site.manager.presign_upload("pictures")
    assert upload.method == "POST" and upload.headers == {}
    assert send(upload, PNG, "image/png") == 204
    (key,) = site.waiting()
    assert key.startswith("app/.incoming/pics/") and key == upload.fields["key"]
    assert list(site.backend.iter_locations()) == [] == list(site.backend.iter_objects("pics"))
    assert site.manager.presign_upload("pictures").fields["key"] != key


def test_the_signed_policy_holds_key_size_and_type(site: Site) -> None:
    conditions = _conditions(site.manager.presign_upload("pictures"))
    assert ["content-length-range", 10, 2**20] in conditions
    assert ["starts-with", "$Content-Type", "image/"] in conditions
    assert any(isinstance(one, dict) and one.get("key", "").startswith("app/.incoming/pics/") for one in conditions)
    assert {"bucket": site.bucket} in conditions


@pytest.mark.parametrize(
    ("policy", "asked", "told"),
    [
        ("anything", None, "application/octet-stream"),
        ("anything", "text/html", "text/html"),
        ("pictures", "image/PNG; q=1", "image/png"),
        ("documents", "text/csv; charset=UTF-8", "text/csv; charset=utf-8"),
        ("documents", "application/pdf", "application/pdf"),
    ],
)
def test_one_type_is_signed_and_given_with_the_fields(site: Site, policy: str, asked: str | None, told: str) -> None:
    upload = site.manager.presign_upload(policy, content_type=asked)
    assert upload.fields["Content-Type"] == told
    assert {"Content-Type": told} in _conditions(upload)


def test_a_type_that_the_policy_does_not_take_is_refused_at_once(site: Site) -> None:
    for policy, asked in (("pictures", "text/plain"), ("pictures", "image/svg+xml"), ("documents", "video/mp4")):
        with pytest.raises(ContentTypeNotAllowedError, match=policy):
            site.manager.presign_upload(policy, content_type=asked)
    with pytest.raises(InvalidUploadError, match="no media type"):
        site.manager.presign_upload("anything", content_type="text/plain\r\nX-Evil: 1" * 9)
    with pytest.raises(ContentTypeNotAllowedError, match="give the content_type"):
        site.manager.presign_upload("documents")  # several patterns: a form can be held to one only


@pytest.mark.parametrize("name", ["filename", "content_type"])
def test_what_is_no_text_is_refused_by_its_name(site: Site, name: str) -> None:
    with pytest.raises(InvalidUploadError, match=f"{name} is a str, not bytes"):
        site.manager.presign_upload("anything", **{name: b"image/png"})  # type: ignore[arg-type]


def test_a_size_that_is_known_is_the_only_one(site: Site) -> None:
    assert ["content-length-range", 50, 50] in _conditions(site.manager.presign_upload("pictures", size=50))
    with pytest.raises(ContentTooLargeError):
        site.manager.presign_upload("pictures", size=2**20 + 1)
    with pytest.raises(ContentTooSmallError):
        site.manager.presign_upload("pictures", size=9)
    for size in (-1, True, "5"):
        with pytest.raises(InvalidUploadError):
            site.manager.presign_upload("pictures", size=size)  # type: ignore[arg-type]


def test_more_than_one_request_can_hold_is_not_promised(site: Site) -> None:
    large = {"large": StoragePolicy("large", "s3", 10 * 2**30)}
    with site.manager.override(policies=large):
        upload = site.manager.presign_upload("large")
        with pytest.raises(NotSupportedError, match="5 GiB"):
            site.manager.presign_upload("large", method="put", size=6 * 2**30, content_type="text/plain")
    assert upload.max_size == 5 * 2**30
    assert ["content-length-range", 0, 5 * 2**30] in _conditions(upload)


def test_a_put_is_signed_for_one_size_and_type(site: Site) -> None:
    upload = site.manager.presign_upload("documents", method="put", size=5, content_type="text/plain")
    assert upload.method == "PUT" and upload.fields == {} and upload.max_size == 5
    assert upload.headers == {"Content-Type": "text/plain"}
    assert "X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost" in upload.url
    assert send(upload, b"hello") == 200
    assert len(site.waiting()) == 1


def test_a_put_without_a_size_or_type_is_refused(site: Site) -> None:
    with pytest.raises(NotSupportedError, match="give the size"):
        site.manager.presign_upload("documents", method="put", content_type="text/plain")
    with pytest.raises(NotSupportedError, match="give the content_type"):
        site.manager.presign_upload("pictures", method="put", size=50)


@pytest.mark.parametrize("own_client", [False, True])
@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "my-bucket.s3.eu-central-1.amazonaws.com"),
        ("us-east-1", "my-bucket.s3.amazonaws.com"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_it_is_signed_with_version_4_for_the_endpoint_of_the_buckets_region(
    method: str, region: str, host: str, own_client: bool
) -> None:
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    if own_client:  # which by itself would sign with version 2, and for an endpoint that redirects
        backend = S3StorageBackend(bucket="my-bucket", client=boto3.client("s3", region_name=region, **keys))
    else:
        backend = S3StorageBackend(bucket="my-bucket", region=region, access_key="AKIA", secret_key="secret")
    request = backend.presign_upload(key="a", method=method, conditions=UploadConditions("text/plain", 5, 5, HOUR))
    assert urlsplit(request.url).netloc == host
    told = request.fields if method == "POST" else dict(parse_qsl(urlsplit(request.url).query))
    told = {name.lower(): value for name, value in told.items()}
    assert told["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert told["x-amz-credential"].split("/")[2] == region


def test_a_policy_without_max_size_is_refused(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'unlimited' has no max_size"):
        site.manager.presign_upload("unlimited")


def test_an_unknown_method_is_refused(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'post' or 'put'"):
        site.manager.presign_upload("anything", method="get")  # type: ignore[arg-type]


def test_without_secret_keys_nothing_is_signed(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="secret_keys"):
        site.another(secret_keys=None).presign_upload("anything")


def test_it_expires_in_an_hour_unless_told(site: Site) -> None:
    before = datetime.now(UTC)
    assert before + HOUR - timedelta(seconds=2) < site.manager.presign_upload("anything").expires_at
    assert site.manager.presign_upload("anything").expires_at < datetime.now(UTC) + HOUR
    upload = site.manager.presign_upload("anything", expires=timedelta(minutes=5))
    signed = datetime.fromisoformat(json.loads(base64.b64decode(upload.fields["policy"]))["expiration"])
    assert abs(upload.expires_at - before - timedelta(minutes=5)) < timedelta(seconds=30)
    assert abs(signed - upload.expires_at) < timedelta(seconds=5)


def test_it_must_expire_before_half_of_the_grace_period(site: Site) -> None:
    for expires in (12 * HOUR, 13 * HOUR):
        with pytest.raises(ConfigurationError, match="half of the manager's grace period, 12:00:00"):
            site.manager.presign_upload("anything", expires=expires)
    assert site.manager.presign_upload("anything", expires=12 * HOUR - timedelta(seconds=1))
    short = site.another(grace=HOUR).presign_upload("anything")
    assert short.expires_at - datetime.now(UTC) < HOUR / 4
    with pytest.raises(ConfigurationError, match="7 days"):
        site.another(grace=timedelta(days=30)).presign_upload("anything", expires=timedelta(days=8))
    for expires in (timedelta(0), 3600):
        with pytest.raises(ConfigurationError, match="timedelta"):
            site.manager.presign_upload("anything", expires=expires)  # type: ignore[arg-type]


def test_what_the_browser_needs_is_plain_json(site: Site) -> None:
    upload = site.manager.presign_upload("anything", filename="secret name.txt")
    plain = json.loads(json.dumps(upload.to_dict()))
    assert plain == {
        "url": upload.url,
        "method": "POST",
        "fields": dict(upload.fields),
        "headers": {},
        "token": upload.token,
        "expires_at": upload.expires_at.isoformat(),
        "max_size": 2**20,
    }


def test_a_repr_holds_no_signature_token_or_filename(site: Site) -> None:
    for upload in (
        site.manager.presign_upload("anything", filename="hidden.txt"),
        site.manager.presign_upload("anything", filename="hidden.txt", method="put", size=5, content_type="text/plain"),
    ):
        shown = repr(upload)
        assert upload.token not in shown and "Signature" not in shown and "hidden" not in shown
        assert upload.fields.get("x-amz-signature", "none") not in shown
    wanted = UploadConditions("text/plain", 5, 5, HOUR)
    assert "Signature" not in repr(site.backend.presign_upload(key="docs/a", method="PUT", conditions=wanted))


def test_a_token_holds_no_subject(site: Site) -> None:
    token = site.manager.presign_upload("anything", subject="session-4711").token
    shown = str(URLSafeSerializer("no key").loads_unsafe(token)[1])
    assert "anything" in shown and "4711" not in shown
    for subject in ("", 7):
        with pytest.raises(ConfigurationError, match="subject"):
            site.manager.presign_upload("anything", subject=subject)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["memory", "local", "S3 without conditional writes", "S3 with a customer's key"])
def test_a_backend_that_cannot_says_so_and_what_to_do(kind: str, tmp_path: Any) -> None:
    backend = {
        "memory": lambda: MemoryStorageBackend(),
        "local": lambda: LocalStorageBackend(tmp_path),
        "S3 without conditional writes": lambda: S3StorageBackend(bucket="none", conditional_writes=False),
        "S3 with a customer's key": lambda: S3StorageBackend(
            bucket="none", extra_put_kwargs={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
        ),
    }[kind]()
    assert Ability.DIRECT_UPLOAD not in backend.abilities
    manager = StorageManager({"store": backend}, {"x": StoragePolicy("x", "store", 10)}, secret_keys=KEY)
    manager.ownership.note(backend, "x", "owner")  # so that no server is asked
    with pytest.raises(NotSupportedError, match=r"manager\.store\(\)") as caught:
        manager.presign_upload("x")
    assert caught.value.http_status == 501


def test_another_owners_prefix_takes_no_upload(site: Site) -> None:
    site.another(owner="shop-prod").presign_upload("pictures")
    with pytest.raises(OwnershipError):
        site.another(owner="shop-staging").presign_upload("pictures")


async def _presigned(manager: StorageManager) -> Any:
    return await manager.apresign_upload("anything", content_type="text/plain")


def test_it_can_be_awaited(site: Site) -> None:
    import asyncio

    assert asyncio.run(_presigned(site.manager)).fields["Content-Type"] == "text/plain"


# What the store refuses: moto believes everything, so it is asked of one that does not


@pytest.mark.s3_servers("rgw")
def test_the_store_refuses_another_key_type_or_size(site: Site) -> None:
    upload = site.manager.presign_upload("pictures")
    others = upload.fields["key"].replace("pics", "anything")
    assert send(upload, PNG, "image/png", key=others) == 403
    assert send(upload, PNG, "image/png", key="app/pics/2026/01/01/mine.png") == 403
    assert send(upload, PNG, "text/html") == 403
    assert send(upload, PNG, "image/png", acl="public-read") == 403
    for content in (PNG[:9], PNG + bytes(2**20)):
        assert send(upload, content, "image/png") in (400, 403)
    exact = site.manager.presign_upload("pictures", content_type="image/png", size=len(PNG))
    assert send(exact, PNG, **{"Content-Type": "image/svg+xml"}) == 403
    assert send(exact, PNG + b"x") in (400, 403)
    assert site.names() == []
    assert send(upload, PNG, "image/png") == send(exact, PNG) == 204
    assert len(site.waiting()) == 2


@pytest.mark.s3_servers("rgw")
def test_the_store_refuses_a_changed_or_expired_form(site: Site) -> None:
    upload = site.manager.presign_upload("anything", expires=timedelta(seconds=1))
    for name in ("policy", "x-amz-signature"):
        value = upload.fields[name]
        assert send(upload, b"hello", **{name: ("A" if value[0] != "A" else "B") + value[1:]}) in (400, 403)
    while datetime.now(UTC) <= upload.expires_at + timedelta(seconds=1):
        time.sleep(0.05)
    assert send(upload, b"hello") == 403
    assert site.names() == []


@pytest.mark.s3_servers("rgw")
def test_the_store_holds_a_put_to_its_size_type_and_key(site: Site) -> None:
    upload = site.manager.presign_upload("documents", method="put", size=5, content_type="text/plain")
    assert send(upload, b"hello!") == send(upload, b"hell") == 403
    assert send(upload, b"hello", headers={"Content-Type": "text/html"}) == 403
    elsewhere = dataclasses.replace(upload, url=upload.url.replace("/documents/", "/anything/"))
    assert send(elsewhere, b"hello") == 403
    assert site.names() == []
    assert send(upload, b"hello") == 200
