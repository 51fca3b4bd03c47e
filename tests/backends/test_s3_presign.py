"""Presigned URLs of S3: whose endpoint, whose signature, and what a server makes of them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import ConfigurationError, InvalidLocationError, InvalidURLError, NotSupportedError
from granite_storage.intake.upload import Upload
from granite_storage.manager import StorageManager
from granite_storage.policies import StoragePolicy
from granite_storage.testing.suite.sources import ref_to

KEYS: dict[str, Any] = {"access_key": "AKIA", "secret_key": "secret"}


def url_of(backend: S3StorageBackend, location: str = "docs/a", expires: int = 60) -> str:
    return backend.presign_get(
        ref_to(backend, location), expires=expires, content_type="text/csv", content_disposition="attachment"
    )


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"region": "eu-central-1"}, "https://my-bucket.s3.eu-central-1.amazonaws.com/docs/a"),
        ({"region": "us-east-1"}, "https://my-bucket.s3.amazonaws.com/docs/a"),
        ({"region": "us-gov-west-1"}, "https://my-bucket.s3.us-gov-west-1.amazonaws.com/docs/a"),
        ({"region": "eu-central-1", "bucket": "my.bucket"}, "https://s3.eu-central-1.amazonaws.com/my.bucket/docs/a"),
        (
            {"region": "eu-west-1", "addressing_style": "path"},
            "https://s3.eu-west-1.amazonaws.com/my-bucket/docs/a",
        ),
        ({"region": "eu-west-1", "endpoint_url": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/my-bucket/docs/a"),
        (
            {"region": "eu-west-1", "endpoint_url": "https://s3.example.com", "addressing_style": "virtual"},
            "https://my-bucket.s3.example.com/docs/a",
        ),
        ({"region": "eu-west-1", "prefix": "live"}, "https://my-bucket.s3.eu-west-1.amazonaws.com/live/docs/a"),
    ],
)
def test_a_url_is_at_the_endpoint_of_the_buckets_region_and_signed_for_it(
    options: dict[str, Any], address: str
) -> None:
    url = url_of(S3StorageBackend(**{"bucket": "my-bucket", **KEYS, **options}))
    assert url.partition("?")[0] == address
    told = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert told["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert told["X-Amz-SignedHeaders"] == ["host"]
    assert told["X-Amz-Credential"][0].split("/")[2:4] == [options["region"], "s3"]


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_so_it_is_with_a_client_of_the_applications_whose_own_urls_stay_as_they_are(region: str) -> None:
    client = boto3.client("s3", region_name=region, aws_access_key_id="AKIA", aws_secret_access_key="secret")
    own: Callable[[], str] = lambda: client.generate_presigned_url(  # noqa: E731
        "get_object", Params={"Bucket": "my-bucket", "Key": "docs/a"}
    )
    before = own().partition("?")
    backend = S3StorageBackend(bucket="my-bucket", client=client)
    with ThreadPoolExecutor(8) as pool:
        urls = list(pool.map(lambda _: url_of(backend), range(32)))
    host = "my-bucket.s3.amazonaws.com" if region == "us-east-1" else f"my-bucket.s3.{region}.amazonaws.com"
    assert {urlsplit(url).netloc for url in urls} == {host}
    assert all("X-Amz-Algorithm=AWS4-HMAC-SHA256" in url for url in urls)
    after = own().partition("?")
    assert before[0] == after[0]
    assert ("X-Amz-Signature" in before[2]) == ("X-Amz-Signature" in after[2])
    client.close()


def test_temporary_credentials_bring_their_token() -> None:
    url = url_of(S3StorageBackend(bucket="my-bucket", region="eu-west-1", session_token="to/ken", **KEYS))
    assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == ["to/ken"]


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(ConfigurationError, match="no credentials: give access_key and secret_key") as caught:
        url_of(S3StorageBackend(bucket="my-bucket", region="eu-west-1"))
    assert type(caught.value.__cause__).__name__ == "NoCredentialsError"


def test_a_client_that_does_not_sign_gives_no_url() -> None:
    client = boto3.client("s3", region_name="eu-west-1", config=Config(signature_version=UNSIGNED))
    with pytest.raises(ConfigurationError, match="no credentials"):
        url_of(S3StorageBackend(bucket="my-bucket", client=client))
    client.close()


def test_a_url_that_s3_would_not_sign_is_refused_with_the_limit() -> None:
    backend = S3StorageBackend(bucket="my-bucket", region="eu-west-1", **KEYS)
    assert "X-Amz-Expires=604800" in url_of(backend, expires=604_800)
    with pytest.raises(InvalidURLError, match=r"604800 \(7 days\) at most, and with temporary credentials"):
        url_of(backend, expires=604_801)


def test_a_hostile_location_gives_no_url() -> None:
    backend = S3StorageBackend(bucket="my-bucket", region="eu-west-1", **KEYS)
    ref = ref_to(backend, "docs/../a")
    with pytest.raises(InvalidLocationError):
        backend.presign_get(ref, expires=60, content_type="text/csv", content_disposition="attachment")
    with pytest.raises(InvalidLocationError):
        backend.object_path(ref)


@pytest.mark.parametrize(
    "given",
    [{"RequestPayer": "requester"}, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}],
    ids=["requester pays", "SSE-C"],
)
def test_what_a_browser_cannot_send_makes_urls_impossible(given: dict[str, Any]) -> None:
    backend = S3StorageBackend(bucket="my-bucket", region="eu-west-1", extra_put_kwargs=given, **KEYS)
    with pytest.raises(NotSupportedError, match="no browser sends"):
        url_of(backend)


def test_the_owner_of_the_bucket_is_no_header_of_a_url() -> None:
    given = {"ExpectedBucketOwner": "123456789012"}
    backend = S3StorageBackend(bucket="my-bucket", region="eu-west-1", extra_put_kwargs=given, **KEYS)
    assert "X-Amz-SignedHeaders=host&" in url_of(backend)


def test_no_request_is_made_for_a_url(s3: S3StorageBackend, requests: list[str]) -> None:
    url_of(s3)
    assert requests == []


@pytest.mark.s3_servers("moto", "rgw", "rgw_tls")
def test_a_file_is_served_as_it_was_accepted(s3: S3StorageBackend, s3_bucket: Any) -> None:
    manager = StorageManager({"s3": s3}, {"images": StoragePolicy("images", "s3")})
    script, image = b"<script>alert(1)</script>", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    name = "_ _x_.png\"; filename*=UTF-8''%E6%97%A5%20%22x%22.png"
    for content, claim, expected in (
        (script, "image/png", ("application/octet-stream", f'attachment; filename="{name}')),
        (image, "text/html", ("image/png", f'inline; filename="{name}')),
    ):
        stored = manager.store("images", Upload(content, '\u65e5 "x".png', claim))
        with urlopen(stored.url(), context=trusting(s3_bucket)) as answer:
            assert answer.read() == content
            assert (answer.headers["Content-Type"], answer.headers["Content-Disposition"]) == expected


@pytest.mark.s3_servers("rgw")
def test_a_url_ends_and_cannot_be_changed(s3: S3StorageBackend) -> None:
    s3.put_bytes(key="docs/a", content=b"content")
    url = url_of(s3, expires=1)
    deadline = time.monotonic() + 30
    while status(url) == 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert status(url) == 403
    valid = url_of(s3)
    assert status(valid) == 200
    for part, other in (
        ("response-content-disposition=attachment", "response-content-disposition=inline"),
        ("response-content-type=text%2Fcsv", "response-content-type=text%2Fhtml"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("docs/a", "docs/b"),
    ):
        assert part in valid
        assert status(valid.replace(part, other)) == 403


def status(url: str) -> int:
    """What a server answers to whoever has a URL."""
    try:
        with urlopen(url) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def trusting(bucket: Any) -> ssl.SSLContext:
    """What a client needs to trust the server of a bucket."""
    return ssl.create_default_context(cafile=bucket.server.ca_bundle)
