from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, BackendUnavailableError, ObjectExistsError
from granite_storage.testing.suite.sources import ref_to


def _everything(backend: S3StorageBackend) -> list[Callable[[], Any]]:
    ref = ref_to(backend, "docs/a")
    return [
        lambda: backend.put_bytes(key="docs/a", content=b"x"),
        lambda: backend.put_bytes(key="docs/a", content=bytes(9_000_000)),
        lambda: backend.get(ref),
        lambda: backend.open(ref),
        lambda: backend.stat(ref),
        lambda: backend.exists(ref),
        lambda: backend.delete(ref),
        lambda: backend.copy(ref, key="docs/b"),
        lambda: list(backend.iter_locations("docs")),
    ]


def test_a_server_that_is_not_there_is_a_backend_error(s3_endpoint: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = boto3.client("s3", endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))
        backend = S3StorageBackend(bucket="some-bucket", client=client)
        for act in _everything(backend):
            with pytest.raises(BackendError, match=r"'docs/.*' in bucket 'some-bucket'") as raised:
                act()
            assert isinstance(raised.value.__cause__, EndpointConnectionError)
        failures = backend.delete_many([ref_to(backend, "a"), ref_to(backend, "b")])
        assert [type(failure.error) for failure in failures] == [BackendUnavailableError] * 2
        client.close()


def test_a_bucket_that_is_not_there_is_no_missing_object(s3_client: Any) -> None:
    backend = S3StorageBackend(bucket="no-such-bucket", client=s3_client)
    for act in (
        lambda: backend.get(ref_to(backend, "docs/a")),
        lambda: backend.put_bytes(key="docs/a", content=b"x"),
        lambda: list(backend.iter_locations()),
    ):
        with pytest.raises(BackendError, match=r"'no-such-bucket' failed: NoSuchBucket .*create the bucket") as raised:
            act()
        assert isinstance(raised.value.__cause__, ClientError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchKey", BackendError),  # a put misses no object
        ("404", BackendError),
        ("PreconditionFailed", ObjectExistsError),
        ("ConditionalRequestConflict", ObjectExistsError),
        ("AccessDenied", BackendError),
        ("SlowDown", BackendUnavailableError),
    ],
)
def test_what_the_server_says_becomes_our_error(
    s3: S3StorageBackend, s3_client: Any, code: str, expected: type[Exception]
) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "so it is"}}, "PutObject")

    s3_client.meta.events.register("before-call.s3.PutObject", refuse)
    with pytest.raises(expected) as raised:
        s3.put_bytes(key="docs/a", content=b"x")
    assert type(raised.value) is expected
    assert "'docs/a'" in str(raised.value)
    assert s3.bucket in str(raised.value)
    assert isinstance(raised.value.__cause__, ClientError)


def test_no_message_shows_a_signature_or_a_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = Config(retries={"max_attempts": 0}, signature_version="s3v4-query")
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}", config=config)
        backend = S3StorageBackend(bucket="some-bucket", client=client)
        with pytest.raises(BackendUnavailableError) as raised:
            backend.get(ref_to(backend, "docs/a"))
        assert "X-Amz-Signature" in str(raised.value.__cause__)
        assert "X-Amz" not in str(raised.value) and "?" not in str(raised.value).split(";")[0]
        client.close()


@pytest.mark.parametrize("key", [12345678, b"12345678"])
def test_no_message_shows_a_key_of_the_wrong_type(s3_bucket: Any, s3_client: Any, key: object) -> None:
    extra = {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": key}
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, extra_put_kwargs=extra)
    with pytest.raises(BackendError, match="Invalid type for parameter SSECustomerKeyMD5") as raised:
        backend.get(ref_to(backend, "docs/a"))
    assert "12345678" in str(raised.value.__cause__) and "12345678" not in str(raised.value)


def test_a_long_reason_is_cut(s3: S3StorageBackend, s3_client: Any) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "Odd", "Message": "x" * 10_000}}, "GetObject")

    s3_client.meta.events.register("before-call.s3.GetObject", refuse)
    with pytest.raises(BackendError, match=r"xxx\.\.\.") as raised:
        s3.get(ref_to(s3, "docs/a"))
    assert len(str(raised.value)) < 500


def test_errors_that_may_pass_are_told_from_those_that_stay() -> None:
    assert issubclass(BackendUnavailableError, BackendError)
    assert BackendUnavailableError.http_status == 503
