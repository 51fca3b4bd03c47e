"""An S3 backend on an empty bucket of the test run's server; what it requests can be watched and broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.refs import StoredObjectRef
from tests.backends.wire import Wire, wire_to
from tests.conftest import Bucket
from tests.s3_servers import S3Server


@pytest.fixture
def s3_client(s3_server: S3Server) -> Iterator[Any]:
    """A client of this test's own, which tries nothing twice."""
    client = s3_server.client(retries={"max_attempts": 0})
    yield client
    client.close()


@pytest.fixture
def s3(s3_bucket: Bucket, s3_client: Any) -> S3StorageBackend:
    """A backend on an empty bucket, through ``s3_client``."""
    return S3StorageBackend(bucket=s3_bucket.name, client=s3_client, **s3_bucket.server.backend_options)


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


@pytest.fixture
def rewritten(s3_client: Any) -> Callable[[Callable[[bytes], bytes]], None]:
    """Change the XML that the server answers a listing with: ``rewritten(lambda body: body.replace(...))``."""

    def register(change: Callable[[bytes], bytes]) -> None:
        def rewrite(response_dict: dict[str, Any], **_: Any) -> None:
            response_dict["body"] = change(response_dict["body"])

        s3_client.meta.events.register_first("before-parse.*.ListObjectsV2", rewrite)

    return register


@pytest.fixture
def wire(s3_server: S3Server) -> Iterator[Wire]:
    """A wire to the server, for a backend that is made with ``wired``."""
    with wire_to(s3_server.endpoint_url) as wire:
        yield wire


@pytest.fixture
def wired(s3_bucket: Bucket, wire: Wire) -> Iterator[S3StorageBackend]:
    """A backend on the test's bucket over the wire; it has one connection in its pool."""
    server = replace(s3_bucket.server, endpoint_url=wire.url)
    client = server.client(retries={"max_attempts": 0}, max_pool_connections=1)
    yield S3StorageBackend(bucket=s3_bucket.name, client=client, **server.backend_options)
    client.close()


@pytest.fixture
def ref_of() -> Callable[[str, bytes], StoredObjectRef]:
    """A ref to an object that the test put by itself."""

    def make(location: str, content: bytes) -> StoredObjectRef:
        checksum = f"sha256:{sha256(content).hexdigest()}"
        return StoredObjectRef("documents", "s3", location, len(content), checksum)

    return make
