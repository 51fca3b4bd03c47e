"""What S3 records with an object: from a policy, in one PUT, in parts and in copies."""

from __future__ import annotations

import io
from typing import Any

import pytest

from granite_storage.backends import s3_copy
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_arguments import put_arguments
from granite_storage.backends.s3_landed import MARK
from granite_storage.exceptions import NotSupportedError
from granite_storage.intake.upload import Upload
from granite_storage.manager import StorageManager
from granite_storage.object_settings import ObjectSettings
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef

PART = 5 * 1024**2
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234"
SETTINGS: dict[str, Any] = {
    "cache_control": "private, max-age=60",
    "metadata": {"Project": "apollo"},
    "storage_class": "STANDARD_IA",
    "encryption": "SSE-KMS",
    "kms_key_id": KEY,
    "tags": {"team": "a b/c=d", "\u00fc": "+"},
}
RECORDED = {
    "CacheControl": "private, max-age=60",
    "Metadata": {"project": "apollo"},
    "StorageClass": "STANDARD_IA",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": KEY,
    "tags": {"team": "a b/c=d", "\u00fc": "+"},
}


def recorded(backend: S3StorageBackend, client: Any, ref: StoredObjectRef) -> dict[str, Any]:
    """What the server says of an object, as far as the policy has a say in it."""
    target = {"Bucket": backend.bucket, "Key": ref.location}
    head = client.head_object(**target)
    tags = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(**target)["TagSet"]}
    head["Metadata"].pop(MARK, None)
    names = [name for name in RECORDED if name in head]
    return {**{name: head[name] for name in names}, **({"tags": tags} if tags else {})}


def headers(backend: S3StorageBackend, client: Any, ref: StoredObjectRef) -> tuple[str, str]:
    """The type and disposition that the server gives to whoever asks the bucket itself."""
    head = client.head_object(Bucket=backend.bucket, Key=ref.location)
    return head["ContentType"], head.get("ContentDisposition")


@pytest.fixture
def parted(s3_bucket: Any, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> S3StorageBackend:
    """A backend with the smallest parts, in puts and in copies; it has arguments of its own."""
    monkeypatch.setattr(s3_copy, "COPY_IN_PARTS", PART)
    monkeypatch.setattr(s3_copy, "_PART_SIZE", PART)
    own = {"CacheControl": "no-store", "Tagging": "own=1", "ServerSideEncryption": "AES256", "ContentLanguage": "de"}
    return S3StorageBackend(bucket=s3_bucket.name, client=s3_client, part_size=PART, extra_put_kwargs=own)


def managed(backend: S3StorageBackend, **settings: Any) -> StorageManager:
    return StorageManager({"s3": backend}, {"images": StoragePolicy("images", "s3", **settings)})


@pytest.mark.parametrize("size", [100, 2 * PART + 1])
def test_a_policys_settings_are_recorded_with_an_object_and_its_copy(
    parted: S3StorageBackend, s3_client: Any, size: int, requests: list[str]
) -> None:
    manager = managed(parted, **SETTINGS)
    content = PNG + bytes(size)
    stored = manager.store("images", Upload(io.BytesIO(content), "\u65e5.png"))
    assert ("CreateMultipartUpload" in requests) == (size > PART)
    requests.clear()
    copied = manager.copy("images", stored)
    assert ("CreateMultipartUpload" in requests, "GetObject" in requests) == (size > PART, False)
    for file in (stored, copied):
        assert recorded(parted, s3_client, file.ref) == RECORDED
        assert headers(parted, s3_client, file.ref) == (
            "image/png",
            "inline; filename=\"_.png\"; filename*=UTF-8''%E6%97%A5.png",
        )
        assert s3_client.head_object(Bucket=parted.bucket, Key=file.location)["ContentLanguage"] == "de"


@pytest.mark.parametrize("size", [100, 2 * PART + 1])
def test_a_copy_has_what_its_policy_says_now_and_nothing_that_it_said_before(
    parted: S3StorageBackend, s3_client: Any, size: int
) -> None:
    stored = managed(parted, **SETTINGS).store("images", Upload(PNG + bytes(size), "x.png"))
    now = managed(parted, cache_control="private", tags={"team": "other"})
    copied = now.copy("images", now.file(stored.ref))
    assert recorded(parted, s3_client, copied.ref) == {
        "CacheControl": "private",
        "Metadata": {},
        "ServerSideEncryption": "AES256",
        "tags": {"team": "other"},
    }


def test_a_copy_under_a_policy_without_settings_has_the_backends(s3: S3StorageBackend, s3_client: Any) -> None:
    stored = managed(s3, **{**SETTINGS, "storage_class": None}).store("images", Upload(PNG, "x.png"))
    now = managed(s3)
    copied = now.copy("images", now.file(stored.ref))
    assert recorded(s3, s3_client, copied.ref) == {"Metadata": {}}
    assert headers(s3, s3_client, copied.ref) == ("image/png", 'inline; filename="x.png"')


def test_a_copy_with_settings_keeps_the_type_of_its_ref(s3: S3StorageBackend, s3_client: Any) -> None:
    ref = s3.put_bytes(key="a", content=PNG, content_type="image/png", original_filename="x.png")
    settings = ObjectSettings("private")
    for location, source, expected in (
        ("typed", ref, ("image/png", 'inline; filename="x.png"')),
        ("untyped", ref.replace(content_type=None), ("application/octet-stream", 'attachment; filename="x.png"')),
    ):
        s3.copy(source, key=location, settings=settings)
        assert headers(s3, s3_client, ref.replace(location=location)) == expected


@pytest.mark.parametrize("size", [0, 9_000_000])
@pytest.mark.parametrize(
    ("filename", "claim", "begin", "expected"),
    [
        ("x.png", "image/png", b"<script>alert(1)</script>", ("application/octet-stream", "attachment")),
        ("x.html", "text/html", b"<script>alert(1)</script>", ("text/html", "attachment")),
        ("x.svg", "image/svg+xml", b"<svg onload='alert(1)'/>", ("image/svg+xml", "attachment")),
        ("x.pdf", "application/pdf", b"%PDF-1.7\n", ("application/pdf", "attachment")),
        ("x.html", "text/html", PNG, ("image/png", "inline")),
    ],
    ids=["script as png", "html", "svg", "pdf", "png as html"],
)
def test_only_a_type_that_the_bytes_show_is_ever_stored_inline(
    s3: S3StorageBackend,
    s3_client: Any,
    filename: str,
    claim: str,
    begin: bytes,
    expected: tuple[str, str],
    size: int,
) -> None:
    manager = managed(s3)
    stored = manager.store("images", Upload(begin + b"\n" * size, filename, claim))
    kind, disposition = expected
    for file in (stored, manager.copy("images", stored)):
        assert headers(s3, s3_client, file.ref) == (kind, f'{disposition}; filename="{filename}"')


def test_the_backends_own_disposition_is_never_stored(s3_bucket: Any, s3_client: Any) -> None:
    own = {"ContentDisposition": "inline", "ContentType": "image/png"}
    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_client, extra_put_kwargs=own)
    ref = backend.put_bytes(key="a", content=b"x", content_type="text/html")
    assert headers(backend, s3_client, ref) == ("text/html", "attachment")
    assert headers(backend, s3_client, backend.put_bytes(key="b", content=PNG)) == ("image/png", "inline")


def test_a_policy_goes_before_the_backends_own_arguments_each_as_a_whole() -> None:
    own = {
        "CacheControl": "no-store",
        "Metadata": {"a": "1", "b": "2"},
        "StorageClass": "STANDARD_IA",
        "Tagging": "a=1&b=2",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "own",
        "SSEKMSEncryptionContext": "e30=",
        "BucketKeyEnabled": True,
        "ACL": "private",
    }
    kept = {"ACL": "private", "ContentDisposition": "attachment"}
    settings = ObjectSettings("private", {"a": "3"}, "GLACIER_IR", "SSE-S3", None, {"c": "4"})
    assert put_arguments(own, None, None, settings) == {
        **kept,
        "CacheControl": "private",
        "Metadata": {"a": "3"},
        "StorageClass": "GLACIER_IR",
        "ServerSideEncryption": "AES256",
        "Tagging": "c=4",
    }
    assert put_arguments(own, None, None, ObjectSettings()) == {**own, **kept}
    mine = put_arguments(own, None, None, ObjectSettings(encryption="SSE-KMS", kms_key_id="mine"))
    assert (mine["SSEKMSKeyId"], "SSEKMSEncryptionContext" in mine) == ("mine", False)
    default = put_arguments(own, None, None, ObjectSettings(encryption="SSE-KMS"))
    assert (default["SSEKMSKeyId"], default["ServerSideEncryption"]) == ("own", "aws:kms")


def test_every_mark_and_object_of_a_policy_is_encrypted_as_it_says(s3: S3StorageBackend, s3_client: Any) -> None:
    policy = StoragePolicy(
        "images", "s3", encryption="SSE-KMS", kms_key_id=KEY, storage_class="GLACIER", tags={"a": "b"}
    )
    manager = StorageManager({"s3": s3}, {"images": policy}, owner="shop")
    manager.store("images", Upload(PNG, "x.png"))
    manager.ownership.mark(s3, policy, "database")
    keys = [found["Key"] for found in s3_client.list_objects_v2(Bucket=s3.bucket)["Contents"]]
    heads = {key: s3_client.head_object(Bucket=s3.bucket, Key=key) for key in keys}
    assert [head["SSEKMSKeyId"] for head in heads.values()] == [KEY] * 3
    # Whoever looks at a mark must be able to read it.
    assert {key for key, head in heads.items() if "StorageClass" in head} == {k for k in keys if k.endswith(".png")}


def test_no_backend_stores_in_the_clear_what_its_policy_wants_encrypted(tmp_path: Any) -> None:
    policy = StoragePolicy("images", "disk", encryption="SSE-S3")
    manager = StorageManager({"disk": f"file://{tmp_path}"}, {"images": policy})
    with pytest.raises(NotSupportedError, match="policy 'images' says encryption='SSE-S3', and backend 'disk' cannot"):
        manager.store("images", PNG)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with manager.override():  # in memory nothing is at rest
        assert manager.store("images", PNG).read() == PNG


def test_metadata_at_its_limit_has_room_for_the_backends_own(s3: S3StorageBackend, s3_client: Any) -> None:
    stored = managed(s3, metadata={"name": "x" * 1996}).store("images", PNG)
    metadata = s3_client.head_object(Bucket=s3.bucket, Key=stored.location)["Metadata"]
    assert MARK in metadata
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
