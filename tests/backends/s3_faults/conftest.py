"""A backend whose requests pass a proxy that breaks them, and the server behind it as it truly is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from tests.backends.s3_faults.operations import MEDIUM, PART, SMALL, Store
from tests.backends.s3_faults.proxy import FaultyProxy, faulty_proxy
from tests.conftest import Bucket


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 waits up to a second before it tries again, and longer each time."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))


@pytest.fixture
def through(s3_bucket: Bucket, proxy: FaultyProxy) -> Callable[..., S3StorageBackend]:
    """Make a backend on the bucket through the proxy, with further options."""

    def make(**options: Any) -> S3StorageBackend:
        settings: dict[str, Any] = {"retry_mode": "standard", "max_attempts": 3, "part_size": PART}
        settings |= {"conditional_writes": True}  # so that nothing is asked beforehand
        settings |= {"bucket": s3_bucket.name, "endpoint_url": proxy.endpoint_url}
        return S3StorageBackend(**settings | options)

    return make


@pytest.fixture
def store(s3_bucket: Bucket, through: Callable[..., S3StorageBackend]) -> Store:
    """Two objects, and a backend through the proxy that has made no request yet."""
    direct = S3StorageBackend(bucket=s3_bucket.name, client=s3_bucket.client, part_size=PART)
    made = Store(through(), direct, s3_bucket.client)
    direct.put_bytes(key="docs/small", content=SMALL)
    direct.put_bytes(key="docs/medium", content=MEDIUM)
    return made
