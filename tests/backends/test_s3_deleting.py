from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.exceptions import ClientError

from granite_storage.backends import s3_deleting
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, BackendUnavailableError
from granite_storage.testing.suite.sources import ref_to
from tests.s3_servers import S3Server

pytestmark = pytest.mark.s3_servers("moto", "rgw")

Answer = dict[str, Any]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_deleting, "_BATCH", 2)  # in place of 1000


@pytest.fixture
def trying(s3_bucket: Any, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A backend whose client tries three times, without a pause."""
    monkeypatch.setattr(s3_deleting, "_FIRST_PAUSE", 0.0)
    client = s3_server.client(retries={"total_max_attempts": 3, "mode": "standard"})
    yield S3StorageBackend(bucket=s3_bucket.name, client=client)
    client.close()


def _put(backend: S3StorageBackend, count: int) -> list[Any]:
    return [backend.put_bytes(key=f"docs/{number:05}", content=b"x") for number in range(count)]


def _seen(client: Any) -> list[str]:
    """The names of a client's requests from now on."""
    seen: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: seen.append(model.name))
    return seen


def _refuse(client: Any, code: str, location: str, times: int | None = None) -> list[bytes]:
    """Let the server's answers to batch deletes refuse one key, all of them or the first few; gives the answers."""
    answers: list[bytes] = []
    error = f"<Error><Key>{escape(location)}</Key><Code>{code}</Code><Message>so it is</Message></Error>".encode()

    def rewrite(response_dict: Answer, **_: Any) -> None:
        answers.append(response_dict["body"])
        if times is None or len(answers) <= times:
            head, _, rest = response_dict["body"].partition(b"<Deleted>")
            assert rest, "nothing was deleted"
            kept = [one for one in (b"<Deleted>" + rest).split(b"</Deleted>") if location.encode() not in one]
            response_dict["body"] = head + error + b"</Deleted>".join(kept)

    client.meta.events.register_first("before-parse.*.DeleteObjects", rewrite)
    return answers


def test_ten_thousand_deletes_are_ten_requests(s3: S3StorageBackend, requests: list[str]) -> None:
    refs = [ref_to(s3, f"docs/{number:05}") for number in range(10_000)]
    assert s3.delete_many(refs) == []
    assert requests == ["DeleteObjects"] * 10


def test_what_many_refs_name_is_deleted(s3: S3StorageBackend, requests: list[str], small_batches: None) -> None:
    refs = _put(s3, 5)
    requests.clear()
    assert s3.delete_many([*refs[:4], ref_to(s3, "docs/missing"), refs[0]]) == []
    assert requests == ["DeleteObjects"] * 3
    assert list(s3.iter_locations()) == [refs[4].location]


def test_batches_go_side_by_side(s3: S3StorageBackend, on_request: Callable[..., None], small_batches: None) -> None:
    refs = _put(s3, 8)
    all_there = threading.Barrier(4, timeout=30)
    on_request("DeleteObjects", lambda params: all_there.wait())
    assert s3.delete_many(refs) == []
    assert list(s3.iter_locations()) == []


def test_what_the_server_refuses_is_told_one_by_one(s3: S3StorageBackend, s3_client: Any) -> None:
    refs = _put(s3, 3)
    _refuse(s3_client, "AccessDenied", refs[1].location)
    [failure] = s3.delete_many(refs)
    assert failure.ref == refs[1]
    assert isinstance(failure.error, BackendError)
    assert f"{refs[1].location!r} in bucket {s3.bucket!r} failed: AccessDenied (so it is)" in str(failure.error)


def test_every_ref_to_what_could_not_be_deleted_is_told(s3: S3StorageBackend, s3_client: Any) -> None:
    [ref] = _put(s3, 1)
    _refuse(s3_client, "AccessDenied", ref.location)
    assert [failure.ref for failure in s3.delete_many([ref, ref])] == [ref, ref]


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion"])
def test_what_is_gone_is_no_failure_whatever_the_server_calls_it(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], code: str
) -> None:
    [ref] = _put(s3, 1)
    _refuse(s3_client, code, ref.location)
    requests.clear()
    assert s3.delete_many([ref]) == []
    assert requests == ["DeleteObjects"]


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable"])
def test_what_is_refused_for_now_is_tried_again(trying: S3StorageBackend, code: str) -> None:
    refs = _put(trying, 3)
    answers = _refuse(trying._client(), code, refs[1].location, times=2)
    assert trying.delete_many(refs) == []
    assert [answer.count(b"<Deleted>") for answer in answers] == [3, 1, 1], "only what was refused is to be sent again"


def test_it_is_tried_as_often_as_the_clients_settings_say(trying: S3StorageBackend) -> None:
    refs = _put(trying, 2)
    answers = _refuse(trying._client(), "SlowDown", refs[0].location)
    [failure] = trying.delete_many(refs)
    assert (failure.ref, len(answers)) == (refs[0], 3)
    assert isinstance(failure.error, BackendUnavailableError)
    assert "SlowDown" in str(failure.error)


def test_what_is_refused_for_good_is_not_tried_again(trying: S3StorageBackend) -> None:
    refs = _put(trying, 2)
    answers = _refuse(trying._client(), "AccessDenied", refs[0].location)
    assert [failure.ref for failure in trying.delete_many(refs)] == [refs[0]]
    assert len(answers) == 1


def test_what_an_answer_leaves_open_is_deleted_by_itself(
    s3: S3StorageBackend, s3_client: Any, on_request: Callable[..., None]
) -> None:
    refs = _put(s3, 3)
    alone: list[str] = []

    def say_nothing(response_dict: Answer, **_: Any) -> None:
        response_dict["body"] = b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'

    s3_client.meta.events.register_first("before-parse.*.DeleteObjects", say_nothing)
    on_request("DeleteObject", lambda params: alone.append(params["url_path"]))
    assert s3.delete_many(refs) == []
    assert len(alone) == 3


def test_keys_that_xml_cannot_carry_are_deleted_by_themselves(s3: S3StorageBackend, requests: list[str]) -> None:
    names = ("\ufffe", "\uffff", "a b+c%25", "<&>'\"", " ends ", "\x85", "\u2028", "😀")
    refs = [s3.put_bytes(key=f"docs/{name}.bin", content=b"x") for name in names]
    kept = s3.put_bytes(key="docs/kept", content=b"x")
    requests.clear()
    assert s3.delete_many(refs) == []
    assert sorted(requests) == ["DeleteObject", "DeleteObject", "DeleteObjects"]
    assert list(s3.iter_locations()) == [kept.location]


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed", "MissingContentMD5"])
def test_a_server_without_batch_delete_is_asked_once(
    s3: S3StorageBackend, s3_client: Any, requests: list[str], code: str
) -> None:
    asked: list[bool] = []

    def refuse(**_: Any) -> None:
        asked.append(True)
        raise ClientError({"Error": {"Code": code}}, "DeleteObjects")

    s3_client.meta.events.register("before-call.s3.DeleteObjects", refuse)
    first, second = _put(s3, 3), [s3.put_bytes(key=f"docs/more/{number}", content=b"x") for number in range(3)]
    requests.clear()
    assert s3.delete_many(first) == []
    assert s3.delete_many(second) == []
    assert (requests.count("DeleteObject"), len(asked)) == (6, 1)
    assert list(s3.iter_locations()) == []


def test_a_backend_can_be_told_that_its_server_has_no_batch_delete(s3_bucket: Any, s3_client: Any) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, batch_delete=False)
    refs = _put(backend, 3)
    seen = _seen(s3_client)
    assert backend.delete_many(refs) == []
    assert seen == ["DeleteObject"] * 3


def test_one_by_one_too_a_failure_does_not_keep_the_others(s3_bucket: Any, s3_client: Any, on_request: Any) -> None:
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, batch_delete=False)
    refs = _put(backend, 3)

    def refuse(params: Any) -> None:
        if params["url_path"].endswith(refs[1].location):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    on_request("DeleteObject", refuse)
    [failure] = backend.delete_many(refs)
    assert failure.ref == refs[1]
    assert isinstance(failure.error, BackendError)
    assert list(backend.iter_locations()) == [refs[1].location]


def test_a_batch_that_fails_does_not_keep_the_next(
    s3: S3StorageBackend, on_request: Callable[..., None], small_batches: None
) -> None:
    refs = _put(s3, 5)

    def refuse_first(params: Any) -> None:
        if refs[0].location.encode() in params["body"]:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "DeleteObjects")

    on_request("DeleteObjects", refuse_first)
    failures = s3.delete_many(refs)
    assert [failure.ref for failure in failures] == refs[:2]
    assert all(isinstance(failure.error, BackendError) for failure in failures)
    assert list(s3.iter_locations()) == [ref.location for ref in refs[:2]]
