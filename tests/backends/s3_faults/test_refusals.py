"""What a server refuses for good: the error says why, and what to do about it; never that an object is missing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, BackendUnavailableError, ObjectNotFoundError
from granite_storage.testing.suite.sources import ref_to
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.operations import CASES, SMALL, Case, Store
from tests.backends.s3_faults.proxy import FaultyProxy
from tests.conftest import Bucket

REFUSALS = {
    "AccessDenied": (403, "look at the policies of the bucket and of the user"),
    "ExpiredToken": (400, "give new credentials"),
    "InvalidAccessKeyId": (403, "look at access_key and secret_key"),
    "SignatureDoesNotMatch": (403, "look at access_key and secret_key"),
    "RequestTimeTooSkewed": (403, "set this machine's clock"),
    "InvalidRequest": (400, "request_checksum_calculation=when_required"),
    "NotImplemented": (501, "request_checksum_calculation=when_required"),
    "NoSuchBucket": (404, "create the bucket, or correct its name"),
}
HEADS = [case for case in CASES if case.request == "HeadObject" and case.name != "copy"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_request_that_is_refused_takes_the_object_for_missing(store: Store, proxy: FaultyProxy, case: Case) -> None:
    case.prepare(store)
    for code in ("AccessDenied", "NoSuchBucket"):
        proxy.clear()
        proxy.on("*", faults.refused(REFUSALS[code][0], code))
        with pytest.raises(BackendError, match=f"in bucket '{store.direct.bucket}' failed: {code}") as raised:
            case.run(store)
        assert type(raised.value) is BackendError
        assert isinstance(raised.value.__cause__, ClientError)
        assert max(map(proxy.seen.count, proxy.seen)) < 3, "it is not tried again; a copy looks at two objects"


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("case", [*HEADS, *(case for case in CASES if case.request == "ListObjectsV2")], ids=str)
def test_a_refusal_names_the_code_the_request_and_the_remedy(
    store: Store, proxy: FaultyProxy, case: Case, code: str
) -> None:
    status, remedy = REFUSALS[code]
    proxy.on("*", faults.refused(status, code, "so it is"))
    with pytest.raises(BackendError) as raised:
        case.run(store)
    assert f"failed: {code} (so it is), request {faults.REQUEST_ID}" in str(raised.value)
    assert remedy in str(raised.value)


def test_a_bucket_that_is_not_there_has_no_missing_objects(s3_bucket: Bucket) -> None:
    backend = S3StorageBackend(bucket=f"{s3_bucket.name}-not", client=s3_bucket.client)
    ref = ref_to(backend, "docs/a")
    for act in (backend.exists, backend.stat, backend.open, backend.get, backend.delete):
        with pytest.raises(BackendError, match=r"NoSuchBucket .*create the bucket"):
            act(ref)
    with pytest.raises(BackendError, match="NoSuchBucket"):
        backend.copy(ref, key="docs/b")


def test_a_missing_object_is_missing(store: Store, proxy: FaultyProxy) -> None:
    ref = ref_to(store.backend, "docs/none")
    assert not store.backend.exists(ref)
    assert proxy.seen == ["HeadObject", "GetObject"], "the second tells that it is not the bucket that is missing"
    for act in (store.backend.stat, store.backend.open, store.backend.get):
        with pytest.raises(ObjectNotFoundError, match="no object is at 'docs/none'"):
            act(ref)


def test_an_object_that_comes_to_be_while_it_is_looked_for_is_there(store: Store, proxy: FaultyProxy) -> None:
    proxy.on("HeadObject", faults.refused(404, "NoSuchKey"), times=1)
    assert store.backend.exists(ref_to(store.backend, "docs/small"))


@pytest.mark.parametrize("status", [400, 301])
def test_a_bucket_in_another_region_is_found_there(
    store: Store, proxy: FaultyProxy, through: Callable[..., S3StorageBackend], status: int
) -> None:
    store.backend = through(region="us-east-1")
    proxy.on("*", faults.wrong_region("eu-west-3", status))
    assert store.backend.get(ref_to(store.backend, "docs/small")) == SMALL
    assert store.backend.exists(ref_to(store.backend, "docs/small"))
    store.backend.put_bytes(key="docs/new", content=b"x")


def test_a_region_that_is_wrong_all_the_same_is_named(store: Store, proxy: FaultyProxy) -> None:
    answer = faults.refused(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    proxy.on("*", answer)
    for act in (store.backend.get, store.backend.stat):
        with pytest.raises(BackendError, match=r"PermanentRedirect .*set region='eu-west-3', where the bucket is$"):
            act(ref_to(store.backend, "docs/small"))


def test_a_server_that_is_no_s3_server_has_no_missing_objects(store: Store, proxy: FaultyProxy) -> None:
    proxy.on("*", faults.web_page(404))
    ref = ref_to(store.backend, "docs/small")
    for act in (store.backend.exists, store.backend.get, store.backend.delete):
        with pytest.raises(BackendError, match="look at endpoint_url") as raised:
            act(ref)
        assert not isinstance(raised.value, BackendUnavailableError)


def test_a_name_that_nobody_knows_is_an_error_with_the_remedy() -> None:
    backend = _backend("http://granite.invalid")
    with pytest.raises(BackendUnavailableError, match=r"EndpointConnectionError.*tried 2 times; look at endpoint_url"):
        backend.get(ref_to(backend, "docs/a"))


def test_a_server_that_does_not_run_is_an_error_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        backend = _backend(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(BackendUnavailableError, match=r"tried 2 times; look at endpoint_url: is the"):
            backend.exists(ref_to(backend, "docs/a"))


def test_a_server_that_takes_no_connection_is_an_error_with_the_remedy() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):  # they fill its queue; further connections get no answer
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        backend = _backend(f"http://127.0.0.1:{full.getsockname()[1]}", max_attempts=1, connect_timeout=0.3)
        with pytest.raises(BackendUnavailableError, match=r"ConnectTimeoutError.*1 time; .*raise connect_timeout"):
            backend.exists(ref_to(backend, "docs/a"))


def test_https_to_a_port_of_plain_http_is_an_error_with_the_remedy() -> None:
    def answer(listener: socket.socket) -> None:
        with suppress(OSError):  # closed at the end
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        backend = _backend(f"https://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(BackendError, match=r"SSLError.*look at endpoint_url \(https or http\?\)") as raised:
            backend.get(ref_to(backend, "docs/a"))
        listener.shutdown(socket.SHUT_RDWR)
    assert type(raised.value) is BackendError, "no time mends it"


def test_credentials_that_nobody_has_are_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, proxy: FaultyProxy
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    backend = S3StorageBackend(bucket="b", endpoint_url=proxy.endpoint_url, region="us-east-1")
    with pytest.raises(BackendError, match=r"NoCredentialsError.*give access_key and secret_key"):
        backend.get(ref_to(backend, "docs/a"))


def _backend(endpoint_url: str, **options: Any) -> S3StorageBackend:
    settings: dict[str, Any] = {"max_attempts": 2, "region": "us-east-1", "access_key": "k", "secret_key": "s"}
    return S3StorageBackend(bucket="b", endpoint_url=endpoint_url, **settings | options)
