"""Objects in a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, BinaryIO, ClassVar, Self

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo
from granite_storage.backends.listing import folder_of
from granite_storage.backends.new_ref import new_ref
from granite_storage.backends.s3_batches import delete_in_batches, list_objects
from granite_storage.backends.s3_client import ClientSource
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_keys import BucketKeys
from granite_storage.backends.s3_options import check_options, options_of
from granite_storage.backends.s3_reader import open_object
from granite_storage.backends.s3_transfer import copy_object, upload
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import InvalidLocationError, ObjectExistsError, ObjectNotFoundError
from granite_storage.refs import StoredObjectRef

__all__ = ["S3StorageBackend"]

_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
_OWNER = ("RequestPayer", "ExpectedBucketOwner")


class S3StorageBackend:
    """Objects below ``prefix`` in a bucket. The client is made on first use, and again after a fork.

    :param bucket: its name.
    :param prefix: what precedes every location in the bucket.
    :param client: a boto3 S3 client to use instead of one made from the options below; a fork does not replace it.
    :param extra_put_kwargs: further arguments of PutObject, such as
        ``{"ServerSideEncryption": "AES256"}``.
    :param region: such as ``"eu-west-1"``; boto3 finds it elsewhere (environment, profile) by default.
    :param endpoint_url: for servers other than Amazon's.
    :param access_key: the access key's id, with ``secret_key`` and for temporary credentials ``session_token``; boto3
        finds them elsewhere by default.
    :param addressing_style: ``"path"``, ``"virtual"`` or ``"auto"``.
    :param request_checksum_calculation: ``"when_required"`` for servers that refuse checksum trailers.
    :param response_checksum_validation: likewise.
    :param max_pool_connections: connections kept open at a time.
    :param conditional_writes: whether a put says ``If-None-Match: *``. False for a server that refuses or ignores it:
        NO_OVERWRITE is not declared then, and only the randomness of locations protects objects.
    :param part_size: bytes (5 MiB at least) of a part of a multipart upload; a smaller object is one PUT. Each upload
        has a few parts in memory. It has 10 000 parts at most, so a stream of unknown size ends at 80 GB.
    :raises ConfigurationError: naming an option that makes no sense.

    >>> S3StorageBackend(bucket="my-bucket", prefix="production", secret_key="hidden", access_key="hidden")
    S3StorageBackend(bucket='my-bucket', prefix='production')
    """

    backend_name = "s3"
    _ABILITIES: ClassVar[frozenset[Ability]] = frozenset(
        {Ability.RANGED_READ, Ability.STAT, Ability.COPY, Ability.BATCH_DELETE, Ability.ORDERED_LISTING}
    )

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        client: Any = None,
        extra_put_kwargs: Mapping[str, Any] | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        addressing_style: str | None = None,
        request_checksum_calculation: str | None = None,
        response_checksum_validation: str | None = None,
        max_pool_connections: int = 32,
        conditional_writes: bool = True,
        part_size: int = 8 * 1024**2,
    ) -> None:
        check_options(bucket, prefix, extra_put_kwargs, (access_key, secret_key), part_size)
        self._endpoint_url = endpoint_url
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.extra_put_kwargs = dict(extra_put_kwargs or {})
        self.abilities = self._ABILITIES | {Ability.NO_OVERWRITE} if conditional_writes else self._ABILITIES
        self._conditional = conditional_writes
        self._part_size = part_size
        self._keys = BucketKeys(bucket, self.prefix + "/" if self.prefix else "")
        self._owner = {name: value for name, value in self.extra_put_kwargs.items() if name in _OWNER}
        self._always = {name: value for name, value in self.extra_put_kwargs.items() if name in _CUSTOMER_KEY}
        self._always |= self._owner
        self._client = ClientSource(
            client,
            region=region,
            endpoint_url=endpoint_url,
            secrets=(access_key, secret_key, session_token),
            max_pool_connections=max_pool_connections,
            s3={"addressing_style": addressing_style} if addressing_style else None,
            request_checksum_calculation=request_checksum_calculation,
            response_checksum_validation=response_checksum_validation,
        )

    @classmethod
    def from_url(cls, url: BackendURL) -> Self:
        """Make a backend from ``s3://bucket/prefix?region=eu-west-1&endpoint_url=...``.

        The options are those of the class; the keys may also stand before the bucket: ``s3://KEY:SECRET@bucket``.

        :raises ConfigurationError: if the bucket is missing, or an option is unknown or makes no sense.
        """
        return cls(**options_of(url))

    @property
    def place(self) -> str:
        """The store itself, whatever the backend is called."""
        return f"s3:{self._endpoint_url or ''}/{self.bucket}/{self.prefix}"

    def __repr__(self) -> str:
        prefix = f", prefix={self.prefix!r}" if self.prefix else ""
        return f"{type(self).__name__}(bucket={self.bucket!r}{prefix})"

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store ``content`` at the location ``key``; raises as :meth:`put_stream`."""
        return self.put_stream(
            key=key,
            stream=io.BytesIO(content),
            size=len(content),
            checksum=f"sha256:{sha256(content).hexdigest()}",
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
        )

    def put_stream(
        self,
        *,
        key: str,
        stream: BinaryIO,
        size: int | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        """Store what ``stream`` still gives; the ref's ``extra`` tells the bucket.

        :raises InvalidLocationError: if ``key`` is no location, or too long with the prefix before it.
        :raises ObjectExistsError: if something is there already.
        :raises BackendError: if the server or the network fails; nothing is visible then.
        """
        target = self._keys.target(key)
        ref = new_ref(
            self.backend_name,
            key,
            checksum=checksum,
            content_type=content_type,
            original_filename=original_filename,
            extra={**(extra or {}), "bucket": self.bucket},
        )
        written = upload(
            self._client(),
            stream,
            target,
            self._arguments(content_type),
            key,
            size=size,
            part_size=self._part_size,
            overwrite=not self._conditional,
        )
        return ref.replace(size=written)

    def get(self, ref: StoredObjectRef) -> bytes:
        """The whole content; raises ObjectNotFoundError."""
        target = {**self._keys.target(ref.location), **self._always}
        with (
            s3_errors(self.bucket, ref.location, "reading"),
            self._client().get_object(**target)["Body"] as body,
        ):
            content: bytes = body.read()
        return content

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A seekable stream that fetches the ranges that are read; raises ObjectNotFoundError.

        Reading raises BackendError if the object is not the one any more that was opened.
        """
        head = self._head(ref.location)
        target = {**self._keys.target(ref.location), **self._always}
        return open_object(self._client, target, ref.location, size=head["ContentLength"], etag=head["ETag"])

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether there is an object at the ref's location."""
        with suppress(ObjectNotFoundError):
            return bool(self._head(ref.location))
        return False

    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        """Size and time of an object; raises ObjectNotFoundError."""
        head = self._head(ref.location)
        return ObjectInfo(ref.location, head["ContentLength"], head["LastModified"])

    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        """Copy an object on the server to the new location ``key``; raises ObjectNotFoundError, ObjectExistsError.

        The server is asked first whether something is there: older ones know no condition for this.
        """
        target = self._keys.target(key)
        if self._conditional and self.exists(ref.replace(location=key)):
            raise ObjectExistsError(f"an object is at {key!r} in bucket {self.bucket!r} already; choose another")
        source, arguments = self._keys.target(ref.location), self._arguments(content_type)
        with s3_errors(self.bucket, ref.location, "copying"):
            copy_object(self._client(), source, target, arguments, overwrite=not self._conditional)

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none."""
        target = self._keys.target(ref.location)
        with suppress(ObjectNotFoundError), s3_errors(self.bucket, ref.location, "deleting"):
            self._client().delete_object(**target, **self._owner)

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects, a thousand in a request; gives those that could not be deleted."""
        failures, keys = [], []
        for ref in refs:
            try:
                keys.append((self._keys.target(ref.location)["Key"], ref))
            except InvalidLocationError as error:
                failures.append(DeleteFailure(ref, error))
        return failures + delete_in_batches(self._client(), {"Bucket": self.bucket, **self._owner}, keys)

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        """All locations in the folder ``prefix``, in byte order; raises InvalidLocationError."""
        return (found.location for found in self.iter_objects(prefix))

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects in the folder ``prefix`` in byte order, those after ``start_after``; raises InvalidLocationError."""
        folder = folder_of(prefix)
        return list_objects(
            self._client(), {"Bucket": self.bucket, **self._owner}, self._keys.root, folder, start_after
        )

    def _head(self, location: str) -> Any:
        target = self._keys.target(location)
        with s3_errors(self.bucket, location, "looking at"):
            return self._client().head_object(**target, **self._always)

    def _arguments(self, content_type: str | None) -> dict[str, Any]:
        return {**self.extra_put_kwargs, **({"ContentType": content_type} if content_type else {})}
