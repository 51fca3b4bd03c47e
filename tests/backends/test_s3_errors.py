from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError
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
        assert [type(failure.error) for failure in failures] == [BackendError, BackendError]
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
        ("NoSuchKey", ObjectNotFoundError),
        ("404", ObjectNotFoundError),
        ("PreconditionFailed", ObjectExistsError),
        ("ConditionalRequestConflict", ObjectExistsError),
        ("AccessDenied", BackendError),
        ("SlowDown", BackendError),
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
