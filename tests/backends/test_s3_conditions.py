"""Whether a server heeds If-None-Match is found out once, and what it lacks costs no upload."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.registry import backend_from_url
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_conditions import MARK
from granite_storage.exceptions import BackendError, ObjectExistsError
from granite_storage.testing.suite.sources import content_of, ref_to
from tests.conftest import Bucket

LARGE = 9_000_000


@pytest.fixture
def make(s3_bucket: Bucket) -> Callable[..., Any]:
    """Make a backend that was told nothing about the server but its address."""

    def made(prefix: str = "", **options: str) -> Any:
        told = {name: value for name, value in s3_bucket.server.options.items() if name != "conditional_writes"}
        return backend_from_url(replace(s3_bucket.server, options=told | options).url(s3_bucket.name, prefix))

    return made


def _watch(backend: S3StorageBackend) -> Counter[str]:
    """The requests of a backend's client, counted; a URL that is only signed is none."""
    seen: Counter[str] = Counter()

    def note(model: Any, context: Any, **_: Any) -> None:
        if not context.get("is_presign_request"):
            seen[model.name] += 1

    backend._client().meta.events.register("before-parameter-build.s3", note)
    return seen


def _on(backend: S3StorageBackend, operation: str, act: Callable[[Any], None]) -> None:
    def before(params: Any, **_: Any) -> None:
        act(params)

    backend._client().meta.events.register(f"before-call.s3.{operation}", before)


def _forget(params: Any) -> None:
    """The server never learns of the condition, as if it ignored it."""
    params["headers"].pop("If-None-Match", None)


def _refuse(status: int, code: str) -> Callable[[Any], None]:
    def refuse(params: Any) -> None:
        if "If-None-Match" in params["headers"]:
            told = {"Error": {"Code": code, "Message": "so it is"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(told, "PutObject")

    return refuse


def _missing(params: Any) -> None:
    raise ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject")


def _overwrites(backend: Any, size: int) -> bool:
    location = f"overwritten/{size}"
    backend.put_bytes(key=location, content=b"first")
    try:
        backend.put_bytes(key=location, content=content_of(size))
    except ObjectExistsError:
        assert backend.get(ref_to(backend, location)) == b"first"
        return False
    return True


@pytest.mark.s3_servers("moto", "rgw")
def test_a_server_that_heeds_conditions_is_asked_once_a_process(make: Callable[..., Any]) -> None:
    first, later = make("live"), make("live")
    for backend, questions in ((first, 2), (later, 1)):
        seen = _watch(backend)
        for number in range(3):
            backend.put_bytes(key=f"{questions}/{number}", content=b"x")
        assert seen == {"PutObject": questions + 3}
        assert has_ability(backend, Ability.NO_OVERWRITE)
        assert not _overwrites(backend, questions)
    assert len(list(later.iter_locations())) == 8, "the mark is listed"


@pytest.mark.s3_servers("moto", "rgw")
def test_a_large_object_replaces_none_where_only_single_puts_heed_conditions(make: Callable[..., Any]) -> None:
    backend = make()
    _on(backend, "CompleteMultipartUpload", _forget)  # Ceph's gateway ignores it of its own accord
    assert not _overwrites(backend, LARGE)
    assert not backend._client().list_multipart_uploads(Bucket=backend.bucket).get("Uploads")
    assert backend.put_bytes(key="free", content=content_of(LARGE)).size == LARGE


@pytest.mark.s3_servers("moto", "rclone")
def test_a_server_that_ignores_conditions_is_found_out(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    backend = make()
    _on(backend, "PutObject", _forget)
    _on(backend, "CompleteMultipartUpload", _forget)
    assert not has_ability(backend, Ability.NO_OVERWRITE)
    assert has_ability(backend, Ability.DIRECT_UPLOAD)
    with caplog.at_level(logging.WARNING):
        assert _overwrites(backend, 5)
        assert _overwrites(backend, LARGE)
    assert not has_ability(backend, Ability.NO_OVERWRITE)
    assert not has_ability(backend, Ability.DIRECT_UPLOAD), "two claims at once would both win"
    [warning] = [record.getMessage() for record in caplog.records if record.name.startswith("granite_storage")]
    assert backend.bucket in warning
    assert "conditional_writes=false" in warning


def test_a_server_that_refuses_conditions_gets_none(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    backend = make()
    _on(backend, "PutObject", _refuse(501, "NotImplemented"))
    assert _overwrites(backend, 5)
    assert not has_ability(backend, Ability.NO_OVERWRITE)
    assert "refuses If-None-Match" in caplog.text


def test_a_server_that_refuses_what_it_was_said_to_heed_is_an_error_with_its_remedy(make: Callable[..., Any]) -> None:
    backend = make(conditional_writes="true")
    seen = _watch(backend)
    _on(backend, "PutObject", _refuse(501, "NotImplemented"))
    with pytest.raises(BackendError, match="conditional_writes=false"):
        backend.put_bytes(key="a", content=b"x")
    assert seen["PutObject"] == 1


def test_threads_ask_once_together(make: Callable[..., Any]) -> None:
    backend = make()
    seen = _watch(backend)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: backend.put_bytes(key=f"{number}", content=b"x"), range(8)))
    assert seen == {"PutObject": 2 + 8}


def test_where_the_mark_may_not_be_put_objects_are_all_the_same(make: Callable[..., Any]) -> None:
    backend = make()
    seen = _watch(backend)

    def deny(params: Any) -> None:
        if params["url_path"].endswith(MARK):
            _refuse(403, "AccessDenied")(params)

    _on(backend, "PutObject", deny)
    assert not _overwrites(backend, 5)
    assert seen["PutObject"] == 1 + 2
    assert not has_ability(backend, Ability.NO_OVERWRITE), "nobody knows"


def test_what_fails_otherwise_is_told_of_the_object_and_asked_again(make: Callable[..., Any]) -> None:
    backend = make()
    failing = [True]

    def fail(params: Any) -> None:
        if failing:
            _refuse(503, "SlowDown")(params)

    _on(backend, "PutObject", fail)
    with pytest.raises(BackendError, match=r"'docs/a'.*SlowDown"):
        backend.put_bytes(key="docs/a", content=b"x")
    failing.clear()
    assert not _overwrites(backend, 5)
    assert has_ability(backend, Ability.NO_OVERWRITE)


def test_a_url_that_is_only_signed_asks_nothing(make: Callable[..., Any]) -> None:
    backend = make()
    seen = _watch(backend)
    target = {"Bucket": backend.bucket, "Key": "a", "IfNoneMatch": "*"}
    assert backend._client().generate_presigned_url("put_object", Params=target)
    assert seen == {}


def test_amazon_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    options: dict[str, Any] = {"bucket": "b", "region": "eu-west-1", "access_key": "AKIA", "secret_key": "hidden"}
    backend = S3StorageBackend(**options)
    assert has_ability(backend, Ability.NO_OVERWRITE)
    requests = _watch(backend)
    _on(backend, "PutObject", _refuse(412, "PreconditionFailed"))  # nothing leaves this machine
    _on(backend, "HeadObject", _missing)
    with pytest.raises(ObjectExistsError):
        backend.put_bytes(key="a", content=b"x")
    assert requests["PutObject"] == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    elsewhere = S3StorageBackend(**options)
    elsewhere._client()
    assert not has_ability(elsewhere, Ability.NO_OVERWRITE), "the environment names another server"
