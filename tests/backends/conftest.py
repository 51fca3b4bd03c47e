"""An S3 backend on an empty bucket of the test run's server; what it requests can be watched and broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from granite_storage.backends.s3 import S3StorageBackend


@pytest.fixture
def s3_client(s3_endpoint: str) -> Iterator[Any]:
    """A client of this test's own, which tries nothing twice."""
    config = Config(retries={"max_attempts": 0})
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", config=config)
    yield client
    client.close()


@pytest.fixture
def s3(s3_bucket: Any, s3_client: Any) -> S3StorageBackend:
    """A backend on an empty bucket, through ``s3_client``."""
    return S3StorageBackend(bucket=s3_bucket.name, client=s3_client)


@pytest.fixture
def requests(s3_client: Any) -> list[str]:
    """The names of the requests that ``s3_client`` makes, in order."""
    seen: list[str] = []
    s3_client.meta.events.register("before-call.s3", lambda model, **_: seen.append(model.name))
    return seen


@pytest.fixture
def on_request(s3_client: Any) -> Callable[[str, Callable[..., Any]], None]:
    """Call something before each request of a name: ``on_request("GetObject", lambda params: ...)``."""

    def register(name: str, action: Callable[..., Any]) -> None:
        def act(params: Any, **_: Any) -> None:
            action(params)  # what it returns would be taken for the server's answer

        s3_client.meta.events.register(f"before-call.s3.{name}", act)

    return register
