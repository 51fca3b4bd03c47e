"""Direct uploads as they are: a browser that sends forms and PUTs, and an application with an S3 backend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import urllib3

from granite_storage import S3StorageBackend, StorageManager, StoragePolicy, ValidationError
from granite_storage.presigned import PresignedRequest, PresignedUpload

__all__ = ["PNG", "Site", "send"]

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100)
"""What looks like a picture."""

KEY = "only-for-tests-" * 3


def send(
    upload: PresignedUpload | PresignedRequest,
    content: bytes,
    content_type: str = "application/octet-stream",
    *,
    headers: dict[str, str] | None = None,
    **fields: str,
) -> int:
    """Upload ``content`` and give the answer's status.

    :param content_type: what the form tells where the upload has no ``Content-Type`` of its own.
    :param headers: of a PUT, in place of those it has.
    :param fields: of the form, in place of those it has.
    """
    with urllib3.PoolManager(retries=False) as http:
        if upload.method == "PUT":
            wanted = {**upload.headers, **(headers or {})}
            return http.request("PUT", upload.url, body=content, headers=wanted).status
        form = {"Content-Type": content_type, **upload.fields, **fields}
        # The file comes last: whatever is behind it is not looked at.
        return http.request("POST", upload.url, fields={**form, "file": ("chosen", content, "x/y")}).status


class Site:
    """An application whose files are below ``app`` in a bucket; what it asks of the store is noted.

    :param bucket: what the fixture ``s3_bucket`` gives.
    """

    def __init__(self, bucket: Any, **options: Any) -> None:
        self.bucket = bucket.name
        self.client = bucket.server.client(signature_version="s3v4", retries={"max_attempts": 0})
        self.requests: list[str] = []
        self.client.meta.events.register("before-call.s3", lambda model, **_: self.requests.append(model.name))
        self.validated: list[bytes] = []
        self.backend = S3StorageBackend(bucket=bucket.name, prefix="app", client=self.client, **options)
        self.manager = self.another()

    def another(self, **options: Any) -> StorageManager:
        """A manager of the same backend and policies."""
        size = 2**20
        policies = [
            StoragePolicy("pictures", "s3", size, "pics", min_size=10, content_types=("image/*",)),
            StoragePolicy("documents", "s3", size, content_types=("image/*", "text/*", "application/pdf")),
            StoragePolicy("anything", "s3", size),
            StoragePolicy("checked", "s3", size, validators=(self._validate,)),
            StoragePolicy("unlimited", "s3"),
            StoragePolicy("old-hash", "s3", size, checksum="sha1"),
            StoragePolicy("other-hash", "s3", size, checksum="blake2b"),
        ]
        given = {"secret_keys": KEY, "grace": timedelta(hours=24), **options}
        return StorageManager({"s3": self.backend}, {policy.storage_key: policy for policy in policies}, **given)

    def _validate(self, candidate: Any) -> None:
        with candidate.open() as stream:
            self.validated.append(stream.read())
        if self.validated[-1].startswith(b"bad"):
            raise ValidationError("bad")

    def uploaded(self, policy: str = "anything", content: bytes = b"hello", **options: Any) -> str:
        """The token of an upload that was made."""
        upload = self.manager.presign_upload(policy, **options)
        assert send(upload, content, "image/png" if content == PNG else "text/plain") in (200, 201, 204)
        return upload.token

    def names(self) -> list[str]:
        """The keys in the bucket."""
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def waiting(self) -> list[str]:
        """Those of uploads that wait."""
        return [key for key in self.names() if "/.incoming/" in key and not key.endswith(".claimed")]

    def stored(self) -> list[str]:
        """Those of files."""
        return [key for key in self.names() if "/." not in key]

    def before(self, request: str, action: Callable[[], object]) -> None:
        """Call something before each request of that name; what it raises is what the request gives."""

        def act(**_: Any) -> None:
            action()

        self.client.meta.events.register(f"before-call.s3.{request}", act)

    def after(self, request: str, action: Callable[[dict[str, Any]], object]) -> None:
        """Change the parsed answers to requests of that name."""

        def act(parsed: dict[str, Any], **_: Any) -> None:
            action(parsed)

        self.client.meta.events.register(f"after-call.s3.{request}", act)
