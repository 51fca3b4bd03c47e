from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.registry import backend_from_url
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_client import ClientSource
from granite_storage.exceptions import BackendError, ConfigurationError
from tests.conftest import Bucket

forking = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on, if there are threads


def _in_a_child(action: Callable[[], bool]) -> int:
    """The exit status of a forked process: 0 if ``action`` returned True there."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def _source(endpoint: str | None = None, **options: Any) -> ClientSource:
    options = {"region": "us-east-1", "secrets": ("key", "secret", None), **options}
    return ClientSource(None, endpoint_url=endpoint, **options)


@forking
def test_parent_and_child_put_and_get_after_a_fork(s3_bucket: Any) -> None:
    backend = backend_from_url(s3_bucket.url())
    ref = backend.put_bytes(key="parent", content=b"parent")

    def child() -> bool:
        return backend.get(ref) == b"parent" and backend.get(backend.put_bytes(key="child", content=b"c")) == b"c"

    assert _in_a_child(child) == 0
    assert backend.get(ref) == b"parent"
    assert list(backend.iter_locations()) == ["child", "parent"]


@forking
def test_a_stream_that_is_open_at_a_fork_goes_on_in_both(s3_bucket: Any) -> None:
    backend = backend_from_url(s3_bucket.url())
    content = os.urandom(2_000_000)
    ref = backend.put_bytes(key="a", content=content)
    with backend.open(ref) as stream:
        assert stream.read(300_000) == content[:300_000]
        assert _in_a_child(lambda: stream.read(200_000) == content[300_000:500_000]) == 0
        assert stream.read(1_000_000) == content[300_000:1_300_000]


@forking
def test_a_child_makes_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source()
    ours = source()
    assert source() is ours
    assert _in_a_child(lambda: source() is not ours) == 0


@forking
def test_a_fork_while_the_client_is_being_made_does_not_block_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source()
    making, go_on = threading.Event(), threading.Event()
    make, parent = source._make, os.getpid()

    def slowly() -> Any:
        if os.getpid() == parent:
            making.set()
            go_on.wait(60)
        return make()

    monkeypatch.setattr(source, "_make", slowly)
    thread = threading.Thread(target=source)
    thread.start()
    making.wait(60)
    assert _in_a_child(lambda: source() is not None) == 0
    go_on.set()
    thread.join()


@forking
def test_a_client_of_the_callers_is_used_everywhere() -> None:
    given = object()
    source = ClientSource(given, region=None, endpoint_url=None, secrets=(None, None, None))
    assert source() is given
    assert _in_a_child(lambda: source() is given) == 0


def test_threads_share_one_client() -> None:
    source = _source()
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: source(), range(16)))
    assert len(set(map(id, clients))) == 1


def test_settings_reach_the_client() -> None:
    backend = S3StorageBackend(
        bucket="b",
        region="eu-west-1",
        endpoint_url="http://localhost:9",
        access_key="AKIA",
        secret_key="secret",
        session_token="token",
        addressing_style="path",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=7,
    )
    client = backend._client()
    credentials = client._request_signer._credentials
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("AKIA", "secret", "token")
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-1", "http://localhost:9")
    config = client.meta.config
    assert (config.request_checksum_calculation, config.response_checksum_validation) == ("when_required",) * 2
    assert config.max_pool_connections == 7
    assert config.s3["addressing_style"] == "path"


def test_a_setting_that_boto3_refuses_is_a_configuration_error() -> None:
    for options in ({"endpoint": "no url"}, {"s3": {"addressing_style": "sideways"}}):
        with pytest.raises(ConfigurationError, match="boto3"):
            _source(**options)()


def test_a_missing_boto3_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(ConfigurationError, match="pip install boto3"):
        _source()()


@pytest.mark.s3_servers("rgw_tls")
def test_a_certificate_that_nobody_signed_is_trusted_if_it_is_named(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3_bucket.url("live")
    backend = backend_from_url(url)
    assert backend.get(backend.put_bytes(key="a", content=b"x")) == b"x"
    unnamed = replace(s3_bucket.server, ca_bundle=None).url(s3_bucket.name, "live")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BackendError, match=r"SSLError.* name the certificates to trust with ca_bundle"):
        backend_from_url(unnamed).put_bytes(key="b", content=b"x")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(s3_bucket.server.ca_bundle))
    assert backend_from_url(unnamed).put_bytes(key="b", content=b"x").size == 1


def test_nothing_turns_the_check_of_certificates_off(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown option 'verify'"):
        backend_from_url("s3://bucket?verify=false")
    for nothing in ("false", str(tmp_path / "missing.pem")):
        with pytest.raises(ConfigurationError) as raised:
            backend_from_url(f"s3://bucket?ca_bundle={nothing}")
        assert "neither a file nor a folder" in str(raised.value)
        assert nothing in str(raised.value)
    backend_from_url(f"s3://bucket?ca_bundle={tmp_path}")


@pytest.mark.s3_servers("rgw_tls")
def test_a_server_that_refuses_checksum_trailers_takes_what_is_sent_over_tls(s3_bucket: Bucket) -> None:
    server = replace(s3_bucket.server, options={})
    client = server.client()
    with pytest.raises(ClientError, match="MissingContentLength"):  # boto3 left to itself
        client.put_object(Bucket=s3_bucket.name, Key="a", Body=b"x")
    client.close()
    backend = backend_from_url(server.url(s3_bucket.name))
    refs = [backend.put_bytes(key=f"{size}", content=bytes(size)) for size in (0, 10, 9_000_000)]
    assert [backend.get(ref) for ref in refs] == [bytes(ref.size) for ref in refs]
    assert backend.delete_many(refs) == []


def test_a_bucket_of_amazons_is_the_same_store_by_any_of_its_endpoints() -> None:
    def place(**options: Any) -> str:
        return S3StorageBackend(bucket="files", region="eu-west-1", **options).place

    assert place() == place(endpoint_url="https://s3.eu-west-1.amazonaws.com")
    assert place() == place(endpoint_url="https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com/")
    given = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret")
    assert place() == place(client=given)
    elsewhere = place(endpoint_url="https://s3.example.org")
    assert elsewhere == place(endpoint_url="https://S3.example.org/") != place()
    assert place(endpoint_url="https://notamazonaws.com") != place()
