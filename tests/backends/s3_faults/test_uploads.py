"""What only uploads meet: answers that are lost after the object was made, and bytes that are damaged on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ObjectExistsError, StorageError
from granite_storage.testing.suite.sources import content_of, ref_to
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.operations import PART
from tests.backends.s3_faults.proxy import Answer, Exchange, Fault, FaultyProxy
from tests.conftest import Bucket

LARGE = 2 * PART + 1
SIZES = pytest.mark.parametrize(("size", "request_name"), [(10, "PutObject"), (LARGE, "CompleteMultipartUpload")])

Through = Callable[..., S3StorageBackend]


def _unfinished(bucket: Bucket) -> list[Any]:
    return list(bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", ()))


def _error_in_200(exchange: Exchange) -> None:
    body = b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>late</Message></Error>"
    exchange.send(Answer(200, {"Content-Type": "application/xml"}, body))


def _made_and_error_in_200(exchange: Exchange) -> None:
    exchange.forward()
    _error_in_200(exchange)


def _made_and_gateway_timeout(exchange: Exchange) -> None:
    exchange.forward()
    faults.refused(504, "GatewayTimeout")(exchange)


@SIZES
@pytest.mark.s3_servers("moto", "rgw")
def test_an_object_whose_answer_was_lost_is_known_for_our_own(
    s3_bucket: Bucket, through: Through, proxy: FaultyProxy, size: int, request_name: str
) -> None:
    backend = through(conditional_writes=True)
    proxy.on(request_name, faults.lost_answer, times=1)
    ref = backend.put_bytes(key="a", content=content_of(size))
    assert proxy.seen.count(request_name) == 2
    assert backend.get(ref) == content_of(size)
    assert _unfinished(s3_bucket) == []


@SIZES
def test_so_it_is_though_boto3_does_not_ask_again(
    s3_bucket: Bucket, through: Through, proxy: FaultyProxy, size: int, request_name: str
) -> None:
    backend = through(conditional_writes=True, max_attempts=1)
    proxy.on(request_name, faults.lost_answer)
    ref = backend.put_bytes(key="a", content=content_of(size))
    assert proxy.seen.count(request_name) == 1
    assert backend.get(ref) == content_of(size)


@pytest.mark.s3_servers("moto", "rgw")
def test_a_copy_whose_answers_were_all_lost_is_known_for_our_own(
    s3_bucket: Bucket, through: Through, proxy: FaultyProxy
) -> None:
    backend = through(max_attempts=1)
    ref = backend.put_bytes(key="a", content=b"x")
    proxy.on("CopyObject", faults.lost_answer)
    backend.copy(ref, key="b")
    assert backend.get(ref_to(backend, "b")) == b"x"


@SIZES
def test_an_object_of_anothers_with_the_same_bytes_is_not_taken_for_our_own(
    s3_bucket: Bucket, through: Through, proxy: FaultyProxy, size: int, request_name: str
) -> None:
    def overtaken(exchange: Exchange) -> None:
        exchange.body()
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="a", Body=content_of(size))
        exchange.reset()

    backend = through(conditional_writes=True)
    proxy.on(request_name, overtaken, times=1)
    with pytest.raises(ObjectExistsError):
        backend.put_bytes(key="a", content=content_of(size))
    assert backend.get(ref_to(backend, "a")) == content_of(size)
    assert _unfinished(s3_bucket) == []


def test_an_error_inside_a_200_is_a_failure(s3_bucket: Bucket, through: Through, proxy: FaultyProxy) -> None:
    backend = through(conditional_writes=True)
    proxy.on("CompleteMultipartUpload", _error_in_200)
    with pytest.raises(StorageError, match="InternalError"):
        backend.put_bytes(key="a", content=content_of(LARGE))
    assert not backend.exists(ref_to(backend, "a"))
    assert _unfinished(s3_bucket) == []


@pytest.mark.parametrize("fault", [_made_and_error_in_200, _made_and_gateway_timeout])
def test_an_error_after_the_object_was_made_is_none(through: Through, proxy: FaultyProxy, fault: Fault) -> None:
    backend = through(conditional_writes=True)
    proxy.on("CompleteMultipartUpload", fault)
    assert backend.get(backend.put_bytes(key="a", content=content_of(LARGE))) == content_of(LARGE)


@pytest.mark.parametrize(("size", "request_name"), [(10, "PutObject"), (LARGE, "UploadPart")])
@pytest.mark.s3_servers("rgw")  # moto looks at neither signature nor checksum
def test_bytes_that_are_damaged_on_the_way_are_refused(
    s3_bucket: Bucket, through: Through, proxy: FaultyProxy, size: int, request_name: str
) -> None:
    backend = through(conditional_writes=True)
    proxy.on(request_name, faults.damaged_request)
    with pytest.raises(BackendError):
        backend.put_bytes(key="a", content=content_of(size))
    assert not backend.exists(ref_to(backend, "a"))
    assert _unfinished(s3_bucket) == []


@pytest.mark.parametrize("fault", [faults.lost_request, faults.refused(503, "SlowDown")], ids=["reset", "503"])
def test_parts_are_sent_again_from_memory(through: Through, proxy: FaultyProxy, fault: Fault) -> None:
    backend = through(conditional_writes=True)
    proxy.on("UploadPart", fault, times=2)
    assert backend.get(backend.put_bytes(key="a", content=content_of(LARGE))) == content_of(LARGE)
    assert proxy.seen.count("UploadPart") == 5
