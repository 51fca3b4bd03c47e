"""Bytes that are damaged on their way: no reader takes them for the object."""

from __future__ import annotations

from pathlib import Path

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, ChecksumMismatchError
from granite_storage.testing.suite.sources import ref_to
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.operations import MEDIUM, SMALL, Store
from tests.backends.s3_faults.proxy import FaultyProxy
from tests.conftest import Bucket


def test_a_damaged_answer_is_refused_by_the_checksum_that_s3_keeps(store: Store, proxy: FaultyProxy) -> None:
    proxy.on("GetObject", faults.damaged_answer)
    with pytest.raises(BackendError, match=r"FlexibleChecksumError.*damaged on their way") as raised:
        store.backend.get(ref_to(store.backend, "docs/small"))
    assert store.direct.bucket in str(raised.value)


def test_a_damaged_answer_is_refused_by_the_checksum_of_the_ref(
    store: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    stored = store.direct.put_bytes(key="docs/new", content=MEDIUM)
    file = store.file("docs/new", MEDIUM)
    file = file.manager.file(file.ref.replace(checksum=stored.checksum))
    file.verify()
    proxy.on("GetObject", faults.damaged_answer)
    for act in (file.verify, lambda: file.save_to(tmp_path / "saved", verify=True)):
        with pytest.raises((ChecksumMismatchError, BackendError)):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.s3_servers("rgw")
def test_a_server_that_looks_at_signatures_refuses_damaged_bytes(s3_bucket: Bucket, proxy: FaultyProxy) -> None:
    server = s3_bucket.server
    backend = S3StorageBackend(
        bucket=s3_bucket.name,
        endpoint_url=proxy.endpoint_url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        region="us-east-1",
        conditional_writes=True,
    )
    proxy.on("PutObject", faults.damaged_request)
    with pytest.raises(BackendError, match="damaged on their way"):
        backend.put_bytes(key="docs/a", content=SMALL)
    assert not backend.exists(ref_to(backend, "docs/a"))


@pytest.mark.s3_servers("rgw")
@pytest.mark.parametrize(
    ("keys", "code"),
    [(("nobody", "testing123"), "InvalidAccessKeyId"), (("testing", "wrong"), "SignatureDoesNotMatch")],
)
def test_a_server_that_looks_at_signatures_refuses_wrong_keys(
    s3_bucket: Bucket, keys: tuple[str, str], code: str
) -> None:
    access_key, secret_key = keys
    backend = S3StorageBackend(
        bucket=s3_bucket.name,
        endpoint_url=s3_bucket.endpoint_url,
        access_key=access_key,
        secret_key=secret_key,
        region="us-east-1",
        conditional_writes=True,
    )
    ref = ref_to(backend, "docs/a")
    for act in (backend.exists, backend.get, backend.delete, lambda ref: backend.put_bytes(key="docs/b", content=b"x")):
        with pytest.raises(BackendError, match=rf"{code} .*look at access_key and secret_key"):
            act(ref)
