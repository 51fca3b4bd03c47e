"""A claim makes a stored file of what a browser uploaded: once, for whom it was meant, and as any upload is taken."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile, backend_from_url
from granite_storage.events import StorageEvent
from granite_storage.exceptions import (
    BackendError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidRefError,
    NotSupportedError,
    ObjectNotFoundError,
    OwnershipError,
    StorageError,
    TokenError,
    TokenExpiredError,
    TokenUsedError,
    UnassignableError,
    ValidationError,
)
from granite_storage.locations import location_time
from tests.browsers import KEY, PNG, Site, send

ON_BOTH = pytest.mark.s3_servers("moto", "rgw")


@pytest.fixture
def site(s3_bucket: Any) -> Iterator[Site]:
    made = Site(s3_bucket)
    yield made
    made.client.close()


# What becomes of an upload


@ON_BOTH
def test_a_claimed_upload_is_a_stored_file_as_any(site: Site) -> None:
    token = site.uploaded("pictures", PNG, filename="C:\\me\\cat.png")
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    file = site.manager.claim(token)
    ref = file.ref
    assert isinstance(file, StoredFile) and not file.staged
    assert (file.read(), file.size, file.content_type, file.filename) == (PNG, len(PNG), "image/png", "cat.png")
    assert ref.checksum == f"sha256:{hashlib.sha256(PNG).hexdigest()}"
    assert (ref.storage_key, ref.backend, ref.extra) == ("pictures", "s3", {"bucket": site.bucket})
    assert ref.location.startswith("pics/2") and ref.location.endswith(".png")
    made, recorded = location_time(ref.location), datetime.fromisoformat(ref.created_at or "")
    assert made is not None and before <= made <= recorded + timedelta(milliseconds=1)
    file.verify()
    head = site.client.head_object(Bucket=site.bucket, Key=f"app/{ref.location}")
    assert head["ContentType"] == "image/png"


@ON_BOTH
def test_the_upload_is_gone_and_its_place_tells_where_it_went(site: Site) -> None:
    file = site.manager.claim(site.uploaded())
    assert site.waiting() == [] and site.stored() == [f"app/{file.ref.location}"]
    (mark,) = [key for key in site.names() if key.endswith(".claimed")]
    assert site.client.get_object(Bucket=site.bucket, Key=mark)["Body"].read().decode() == file.ref.location
    assert list(site.backend.iter_locations()) == [file.ref.location]


@ON_BOTH
def test_a_put_is_claimed_likewise(site: Site) -> None:
    token = site.uploaded("documents", b"hello", method="put", size=5, content_type="text/plain")
    assert site.manager.claim(token).text() == "hello"


def test_a_claim_is_told_whether_it_stores_or_fails(site: Site) -> None:
    told: list[StorageEvent] = []
    site.manager.on_event(told.append)
    with pytest.raises(ObjectNotFoundError):
        site.manager.claim(site.manager.presign_upload("pictures").token)
    site.manager.claim(site.uploaded("pictures", PNG))
    assert [(one.kind, one.doing, one.policy, one.backend, one.bytes, one.error) for one in told] == [
        ("failed", "store", "pictures", "s3", 0, "ObjectNotFoundError"),
        ("stored", "", "pictures", "s3", len(PNG), ""),
    ]


@ON_BOTH
def test_an_empty_upload_is_claimed_where_the_policy_takes_it(site: Site) -> None:
    assert site.manager.claim(site.uploaded(content=b"")).size == 0


def test_the_bytes_have_the_last_word_on_the_type(site: Site) -> None:
    assert site.manager.claim(site.uploaded("anything", PNG, filename="a.txt")).content_type == "image/png"
    assert site.manager.claim(site.uploaded("anything", b"a;b\n", filename="a.csv")).content_type == "text/csv"
    token = site.uploaded("documents", b"a;b\n", content_type="text/csv; charset=utf-8")
    assert site.manager.claim(token).content_type == "text/csv; charset=utf-8"


def test_a_type_that_nobody_told_is_guessed_from_the_filename(site: Site) -> None:
    upload = site.manager.presign_upload("anything", filename="a.csv")
    site.client.put_object(
        Bucket=site.bucket, Key=upload.fields["key"], Body=b"a;b\n", ContentType="binary/octet-stream"
    )
    assert site.manager.claim(upload.token).content_type == "text/csv"


def test_the_claim_may_tell_filename_and_extra(site: Site) -> None:
    file = site.manager.claim(site.uploaded(filename="old.txt"), filename="../new.txt", extra={"page": 1})
    assert file.filename == "new.txt" and file.ref.extra == {"page": 1, "bucket": site.bucket}


def test_what_the_backend_puts_with_objects_is_with_the_copy(s3_bucket: Any) -> None:
    site = Site(s3_bucket, extra_put_kwargs={"ServerSideEncryption": "AES256", "CacheControl": "private"})
    file = site.manager.claim(site.uploaded())
    head = site.client.head_object(Bucket=site.bucket, Key=f"app/{file.ref.location}")
    assert (head["ServerSideEncryption"], head["CacheControl"]) == ("AES256", "private")
    site.client.close()


def test_observers_are_told(site: Site) -> None:
    seen: list[Any] = []
    site.manager.observers.append(seen.append)
    file = site.manager.claim(site.uploaded())
    assert [change.stored for change in seen] == [(file.ref,)]


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "claimed_document"
    id: Mapped[int] = mapped_column(primary_key=True)
    report: FileMapped[StoredFile | None] = FileColumn("pictures")


def test_a_row_adopts_it_at_the_flush_without_a_copy(site: Site, memory_engine: Engine) -> None:
    site.manager.attach(Base, engine=memory_engine)
    Base.metadata.create_all(memory_engine)
    token = site.uploaded("pictures", PNG)
    file = site.manager.claim(token)
    site.requests.clear()
    with Session(memory_engine) as session:
        session.add(Document(id=1, report=file))
        session.commit()
    assert "CopyObject" not in site.requests
    with Session(memory_engine) as session:
        document = session.get_one(Document, 1)
        assert document.report == file and document.report.read() == PNG
        document.report = None
        session.commit()
    assert site.stored() == []
    with pytest.raises(TokenUsedError):  # though the file is gone
        site.manager.claim(token)


# The checksum


def test_the_checksum_is_the_servers_where_it_has_one(site: Site) -> None:
    content = b"x" * 2**20
    token = site.uploaded(content=content)
    read = 0

    def count(parsed: dict[str, Any]) -> None:
        nonlocal read
        read += 1

    site.after("GetObject", count)
    site.requests.clear()
    file = site.manager.claim(token)
    assert file.ref.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert site.requests.count("GetObject") == 2  # the mark, and the first bytes
    file.verify()


@ON_BOTH
@pytest.mark.parametrize("lack", ["none", "composite", "of parts"])
def test_else_it_is_of_one_read(site: Site, lack: str) -> None:
    content = b"x" * 2**20
    token = site.uploaded(content=content)

    def tell(parsed: dict[str, Any]) -> None:
        parsed.pop("ChecksumSHA256", None)
        if lack != "none":
            wrong = base64.b64encode(bytes(32)).decode()
            parsed["ChecksumSHA256"] = wrong + "-2" if lack == "of parts" else wrong
            parsed["ChecksumType"] = "COMPOSITE"
        if lack == "of parts":
            del parsed["ChecksumType"]

    site.after("HeadObject", tell)
    assert site.manager.claim(token).ref.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"


@ON_BOTH
@pytest.mark.parametrize(("policy", "algorithm"), [("old-hash", "sha1"), ("other-hash", "blake2b")])
def test_the_policys_algorithm_counts(site: Site, policy: str, algorithm: str) -> None:
    file = site.manager.claim(site.uploaded(policy))
    assert file.ref.checksum == f"{algorithm}:{hashlib.new(algorithm, b'hello').hexdigest()}"


# What the policy refuses


def test_what_the_policy_refuses_is_deleted_and_can_be_sent_anew(site: Site) -> None:
    upload = site.manager.presign_upload("pictures")
    send(upload, b"<script>alert(1)</script>", "image/png")  # moto holds nobody to anything
    with pytest.raises(ContentTypeNotAllowedError):
        site.manager.claim(upload.token)
    assert site.waiting() == site.stored() == []
    send(upload, PNG, "image/png")
    assert site.manager.claim(upload.token).read() == PNG


def test_sizes_are_checked_again(site: Site) -> None:
    for content, error in ((b"GIF89a", ContentTooSmallError), (PNG + bytes(2**20), ContentTooLargeError)):
        upload = site.manager.presign_upload("pictures")
        send(upload, content, "image/png")
        with pytest.raises(error):
            site.manager.claim(upload.token)
    assert site.waiting() == site.stored() == []


@ON_BOTH
def test_validators_see_the_whole_content(site: Site) -> None:
    content = b"good" + bytes(300_000)
    file = site.manager.claim(site.uploaded("checked", content))
    assert site.validated == [content] and file.read() == content
    with pytest.raises(ValidationError):
        site.manager.claim(site.uploaded("checked", b"bad"))
    assert site.waiting() == [] and len(site.stored()) == 1


def test_what_no_ref_could_say_is_refused_before_anything_is_copied(site: Site) -> None:
    token = site.uploaded()
    site.requests.clear()
    with pytest.raises(InvalidRefError):
        site.manager.claim(token, extra={"note": "x" * 70_000})
    assert "CopyObject" not in site.requests and len(site.waiting()) == 1
    assert site.manager.claim(token).text() == "hello"


# Tokens that are not taken


def test_a_forged_token_is_refused_before_the_store_is_asked(site: Site) -> None:
    token = site.uploaded()
    forged = site.another(secret_keys="guessed-" * 4).presign_upload("anything").token
    site.requests.clear()
    for one in (forged, token[:-2], token + "x", "", "a.b.c"):
        with pytest.raises(TokenError):
            site.manager.claim(one)
    assert site.requests == []


def test_a_token_signed_with_an_older_key_is_taken(site: Site) -> None:
    token = site.uploaded()
    assert site.another(secret_keys=["newest-key-" * 3, KEY]).claim(token).text() == "hello"


def test_an_expired_token_is_refused(site: Site) -> None:
    upload = site.manager.presign_upload("anything", expires=timedelta(seconds=1))
    send(upload, b"hello")
    while datetime.now(UTC) <= upload.expires_at:
        time.sleep(0.05)
    with pytest.raises(TokenExpiredError):
        site.manager.claim(upload.token)
    assert site.stored() == []


@pytest.mark.parametrize(
    ("made_for", "claimed_by"), [("alice", "bob"), ("alice", None), (None, "bob"), ("alice", "\ud800")]
)
def test_a_token_of_another_subject_is_refused(site: Site, made_for: str | None, claimed_by: str | None) -> None:
    token = site.uploaded(subject=made_for)
    with pytest.raises(TokenError, match="another subject"):
        site.manager.claim(token, subject=claimed_by)
    assert site.manager.claim(token, subject=made_for).text() == "hello"


def test_a_token_of_another_policy_is_refused(site: Site) -> None:
    token = site.uploaded("anything")
    with pytest.raises(TokenError, match="'pictures'"):
        site.manager.claim(token, policy="pictures")
    assert site.manager.claim(token, policy="anything").text() == "hello"


def test_a_token_of_another_purpose_is_refused(site: Site) -> None:
    token = site.manager.keys.sign("something-else", {}, datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(TokenError):
        site.manager.claim(token)
    strange = site.manager.keys.sign("direct-upload", {"v": 9}, datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(TokenError, match="version"):
        site.manager.claim(strange)


def test_a_token_of_a_policy_that_was_changed_is_refused(site: Site) -> None:
    token = site.uploaded("anything")
    gone = {name: policy for name, policy in site.manager.policies.items() if name != "anything"}
    elsewhere = {**gone, "anything": StoragePolicy("anything", "s3", 10, "elsewhere")}
    other_backend = {**gone, "anything": StoragePolicy("anything", "other", 10)}
    backends = {"s3": site.backend, "other": "memory://"}
    for policies in (gone, elsewhere, other_backend):
        with pytest.raises(TokenError, match="not what it was"):
            StorageManager(backends, policies, secret_keys=KEY).claim(token)


def test_another_owner_claims_nothing(site: Site) -> None:
    upload = site.another(owner="shop-prod").presign_upload("anything")
    send(upload, b"hello")
    with pytest.raises(OwnershipError):
        site.another(owner="shop-staging").claim(upload.token)
    assert site.stored() == []


def test_nothing_uploaded_is_told_and_can_be_claimed_later(site: Site) -> None:
    upload = site.manager.presign_upload("anything")
    with pytest.raises(ObjectNotFoundError, match="nothing was uploaded") as caught:
        site.manager.claim(upload.token)
    assert caught.value.http_status == 404
    send(upload, b"hello")
    assert site.manager.claim(upload.token).text() == "hello"


# Once


def test_a_replayed_token_is_refused(site: Site) -> None:
    token = site.uploaded()
    site.manager.claim(token)
    with pytest.raises(TokenUsedError) as caught:
        site.manager.claim(token)
    assert caught.value.http_status == 410 and len(site.stored()) == 1


@ON_BOTH
@pytest.mark.parametrize("content", [b"hello", PNG], ids=["the same", "another type"])
def test_a_replayed_token_is_refused_though_the_browser_uploads_again(site: Site, content: bytes) -> None:
    upload = site.manager.presign_upload("anything")
    send(upload, b"hello")
    file = site.manager.claim(upload.token)
    send(upload, content)
    with pytest.raises(TokenUsedError):
        site.manager.claim(upload.token)
    site.manager.delete(file.ref)
    send(upload, content)
    with pytest.raises(TokenUsedError):
        site.manager.claim(upload.token)
    assert site.waiting() == site.stored() == []


@ON_BOTH
def test_of_claims_at_once_exactly_one_wins(site: Site) -> None:
    token = site.uploaded(content=b"x" * 300_000)
    everybody = threading.Barrier(4)
    site.before("CopyObject", lambda: everybody.wait(20))  # all of them have looked, and none has marked

    def claim(_: int) -> StoredFile | StorageError:
        try:
            return site.manager.claim(token)
        except StorageError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(claim, range(4)))
    (won,) = [result for result in results if isinstance(result, StoredFile)]
    assert [type(result) for result in results if result is not won] == [TokenUsedError] * 3
    assert site.stored() == [f"app/{won.ref.location}"] and won.size == 300_000


def test_a_claim_that_finds_the_upload_taken_meanwhile_says_so(site: Site) -> None:
    token = site.uploaded()
    once = iter([True])

    def another_is_faster() -> None:
        if next(once, False):
            site.another().claim(token)

    site.before("CopyObject", another_is_faster)
    with pytest.raises(TokenUsedError):
        site.manager.claim(token)
    assert len(site.stored()) == 1


def test_a_mark_whose_answer_was_lost_counts(site: Site) -> None:
    token = site.uploaded()
    once = iter([True])

    def put_it_already() -> None:
        if next(once, False):
            (location,) = [key.removeprefix("app/") for key in site.stored()]
            mark = site.waiting()[0] + ".claimed"
            site.client.put_object(Bucket=site.bucket, Key=mark, Body=location.encode())

    site.before("PutObject", put_it_already)
    file = site.manager.claim(token)
    assert file.text() == "hello" and site.waiting() == []


@ON_BOTH
def test_a_mark_whose_answers_were_all_lost_counts(site: Site) -> None:
    token = site.uploaded()

    def lose_it(parsed: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="x")

    site.after("PutObject", lose_it)
    file = site.manager.claim(token)
    assert file.text() == "hello" and site.waiting() == []


def test_no_claim_wins_by_a_condition_that_the_server_is_found_to_ignore(site: Site, s3_bucket: Any) -> None:
    token = site.uploaded()
    options = {name: value for name, value in s3_bucket.server.options.items() if name != "conditional_writes"}
    told_nothing = replace(s3_bucket.server, options=options)
    backend: Any = backend_from_url(told_nothing.url(s3_bucket.name, "app"))  # and has put nothing yet

    def forget(params: Any, **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    backend._client().meta.events.register("before-call.s3.PutObject", forget)
    with site.manager.override({"s3": backend}):
        for _ in range(2):
            with pytest.raises(NotSupportedError, match="direct uploads"):
                site.manager.claim(token)
    assert site.stored() == [] and len(site.waiting()) == 1


# What changes or fails meanwhile


@ON_BOTH
@pytest.mark.parametrize("request_name", ["GetObject", "CopyObject"])
def test_an_upload_that_is_replaced_meanwhile_is_not_taken(site: Site, request_name: str) -> None:
    upload = site.manager.presign_upload("anything")
    send(upload, b"hello")
    once = iter([False, True] if request_name == "GetObject" else [True])  # the first GetObject is for the mark
    site.before(request_name, lambda: next(once, False) and send(upload, b"<script>"))
    with pytest.raises(BackendError, match="changed"):
        site.manager.claim(upload.token)
    assert site.stored() == [] and len(site.waiting()) == 1
    assert site.manager.claim(upload.token).read() == b"<script>"


@ON_BOTH
@pytest.mark.parametrize("request_name", ["CopyObject", "PutObject", "HeadObject", "GetObject"])
def test_a_claim_that_fails_leaves_no_file_and_can_be_tried_again(site: Site, request_name: str) -> None:
    token = site.uploaded()
    failing = True

    def fail() -> None:
        if failing:
            raise _Broken

    site.before(request_name, fail)
    with pytest.raises((BackendError, _Broken)):
        site.manager.claim(token)
    failing = False
    assert site.stored() == [] and len(site.waiting()) == 1
    assert site.manager.claim(token).text() == "hello"
    assert len(site.stored()) == 1


def test_what_failed_comes_out_though_the_copy_cannot_be_deleted(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    token = site.uploaded()

    def interrupt() -> None:
        raise KeyboardInterrupt

    def fail() -> None:
        raise _Broken

    site.before("PutObject", interrupt)
    site.before("DeleteObject", fail)
    with pytest.raises(KeyboardInterrupt):
        site.manager.claim(token)
    assert "could not be deleted, a sweep will" in caplog.text


@ON_BOTH
def test_a_claim_that_was_killed_is_done_again_or_counts_and_never_twice(site: Site) -> None:
    """After each of its requests nothing more reaches the store, as if the process had been killed."""
    left: list[int] = []

    def pass_one(**_: Any) -> None:
        if left and not left[0]:
            raise _Killed

    def passed(**_: Any) -> None:
        if left:
            left[0] -= 1
            pass_one()

    site.client.meta.events.register("before-call.s3", pass_one)
    site.client.meta.events.register("after-call.s3", passed)
    outcomes = []
    for requests in range(1, 30):
        token = site.uploaded()
        left[:] = [requests]
        try:
            site.manager.claim(token)
        except _Killed:
            left.clear()
        else:
            break
        try:
            file = site.manager.claim(token)
        except TokenUsedError:
            outcomes.append("used")
        else:
            outcomes.append("again")
            assert file.text() == "hello"
        with pytest.raises(TokenUsedError):
            site.manager.claim(token)
        assert site.waiting() == []
    left.clear()
    assert outcomes == sorted(outcomes) and set(outcomes) == {"again", "used"}, "it counts once the mark is put"
    swept = site.backend.remove_leftovers(datetime.now(UTC) + timedelta(days=2))
    assert swept == len(outcomes) + 1, "each has left its mark, and nothing else"


class _Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("wrong", [{"filename": 5}, {"extra": "page 1"}])
def test_a_mistake_of_the_application_costs_no_upload(site: Site, wrong: Any) -> None:
    token = site.uploaded()
    with pytest.raises(UnassignableError):
        site.manager.claim(token, **wrong)
    assert site.manager.claim(token).text() == "hello"


class _Broken(Exception):
    """What no backend expects."""


def test_an_upload_that_cannot_be_deleted_is_left_to_the_sweep(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    token = site.uploaded(filename="hidden.txt")

    def refuse() -> None:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    site.before("DeleteObject", refuse)
    assert site.manager.claim(token).text() == "hello"
    assert "a sweep will" in caplog.text and "hidden" not in caplog.text
    assert len(site.waiting()) == 1


# Awaited


def test_it_can_be_awaited(site: Site) -> None:
    token = site.uploaded(subject="alice")
    assert asyncio.run(site.manager.aclaim(token, subject="alice")).text() == "hello"


def test_what_was_claimed_for_a_cancelled_task_is_deleted(site: Site) -> None:
    token = site.uploaded()
    began, go_on = threading.Event(), threading.Event()
    site.before("CopyObject", lambda: (began.set(), go_on.wait(20)))
    deletes: list[bool] = []

    async def leave() -> None:
        task = asyncio.ensure_future(site.manager.aclaim(token))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    site.before("DeleteObject", lambda: deletes.append(True))
    go_on.set()
    while len(deletes) < 2 or site.stored():  # the upload, and then the file; the test's timeout is the limit
        time.sleep(0.05)
    assert site.waiting() == []
