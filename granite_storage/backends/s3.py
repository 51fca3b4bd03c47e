"""Objects in a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO, ClassVar, Literal, Self

from granite_storage.backends.base import Ability, DeleteFailure, ObjectInfo, StorageBackend
from granite_storage.backends.incoming import UploadConditions
from granite_storage.backends.listing import folder_of
from granite_storage.backends.new_ref import new_ref
from granite_storage.backends.s3_arguments import copy_arguments, put_arguments
from granite_storage.backends.s3_client import ClientSource
from granite_storage.backends.s3_conditions import Conditions
from granite_storage.backends.s3_copy import copy_object
from granite_storage.backends.s3_deletes import ObjectDeletes
from granite_storage.backends.s3_head import head_object
from granite_storage.backends.s3_incoming import S3Incoming, incoming_keys, remove_incoming
from granite_storage.backends.s3_keys import BucketKeys
from granite_storage.backends.s3_leftovers import abort_uploads
from granite_storage.backends.s3_listing import list_objects
from granite_storage.backends.s3_options import check_options, options_of
from granite_storage.backends.s3_pool import UploadPool
from granite_storage.backends.s3_presign import presign_get
from granite_storage.backends.s3_presigned_upload import presign_upload
from granite_storage.backends.s3_ranges import ObjectVersion
from granite_storage.backends.s3_reader import open_version
from granite_storage.backends.s3_reading import read_into, read_whole
from granite_storage.backends.s3_retries import retry_config
from granite_storage.backends.s3_transfer import upload
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import ObjectExistsError, ObjectNotFoundError
from granite_storage.object_settings import ObjectSettings
from granite_storage.presigned import PresignedRequest
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
        ``{"ServerSideEncryption": "AES256"}``. What a policy says goes before them; ContentDisposition is never theirs.
    :param region: such as ``"eu-west-1"``; boto3 finds it elsewhere (environment, profile) by default.
    :param endpoint_url: for servers other than Amazon's.
    :param ca_bundle: a file (PEM) or folder of the certificates to trust, for a server whose certificate no public
        authority signed; ``AWS_CA_BUNDLE`` in the environment by default. No option turns the check off.
    :param access_key: the access key's id, with ``secret_key`` and for temporary credentials ``session_token``; boto3
        finds them elsewhere by default.
    :param addressing_style: ``"path"``, ``"virtual"`` or ``"auto"``.
    :param request_checksum_calculation: ``"when_required"`` for servers that refuse checksum trailers.
    :param response_checksum_validation: likewise.
    :param max_pool_connections: connections kept open at a time.
    :param conditional_writes: whether the server heeds ``If-None-Match: *``. False for one that refuses or ignores it:
        NO_OVERWRITE is not declared then, and only the randomness of locations protects objects. By default it is
        found out before the first put; of Amazon's it is known, and of a ``client`` of yours it is taken for granted.
    :param ordered_listing: False for a server that does not list in byte order: ORDERED_LISTING is not declared then.
    :param leftovers: False for a server without ListMultipartUploads: no sweep aborts unfinished uploads then.
    :param part_size: bytes (5 MiB at least, 5 GiB at most) of a part of a multipart upload; a smaller object is one
        PUT. Parts of what is larger than 10 000 of them are larger.
    :param upload_memory: bytes that the parts of all uploads have in memory together, 48 MiB or two parts by default.
        As many parts as fit are sent at a time.
    :param versions: what a delete does in a versioned bucket: ``"keep"`` leaves a delete marker and old versions,
        ``"purge"`` deletes all versions and markers of the key, at the price of a listing for each.
    :param batch_delete: whether the server has DeleteObjects. One that says that it has not is not asked again.
    :param retry_mode: boto3's ``"legacy"``, ``"standard"`` or ``"adaptive"``.
    :param max_attempts: how often a request is sent at most, the first time included; an interrupted body likewise.
    :param connect_timeout: seconds; boto3's 60 by default.
    :param read_timeout: seconds without a byte from the server; likewise.
    :raises ConfigurationError: naming an option that makes no sense.

    >>> S3StorageBackend(bucket="my-bucket", prefix="production", secret_key="hidden", access_key="hidden")
    S3StorageBackend(bucket='my-bucket', prefix='production')
    """

    backend_name = "s3"
    _ABILITIES: ClassVar[frozenset[Ability]] = frozenset(
        {
            Ability.RANGED_READ,
            Ability.STAT,
            Ability.COPY,
            Ability.COPY_FROM,
            Ability.BATCH_DELETE,
            Ability.ORDERED_LISTING,
            Ability.LEFTOVERS,
            Ability.PARALLEL_READ,
            Ability.PRESIGN,
            Ability.OBJECT_SETTINGS,
        }
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
        ca_bundle: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        addressing_style: str | None = None,
        request_checksum_calculation: str | None = None,
        response_checksum_validation: str | None = None,
        max_pool_connections: int = 32,
        conditional_writes: bool | None = None,
        ordered_listing: bool = True,
        leftovers: bool = True,
        part_size: int = 8 * 1024**2,
        upload_memory: int | None = None,
        versions: Literal["keep", "purge"] = "keep",
        batch_delete: bool = True,
        retry_mode: str | None = None,
        max_attempts: int | None = None,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
    ) -> None:
        check_options(
            bucket,
            prefix,
            extra_put_kwargs,
            (access_key, secret_key),
            part_size,
            ca_bundle,
            upload_memory=upload_memory,
            versions=versions,
        )
        self._endpoint_url = endpoint_url
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.extra_put_kwargs = dict(extra_put_kwargs or {})
        self._abilities = self._ABILITIES - (set() if ordered_listing else {Ability.ORDERED_LISTING})
        self._leftovers = leftovers
        self._conditional = conditional_writes is not False
        if self._conditional and not any(name in self.extra_put_kwargs for name in (*_CUSTOMER_KEY, "RequestPayer")):
            self._abilities |= {Ability.DIRECT_UPLOAD}  # those are headers that a browser would have to know
        self._part_size = part_size
        self._uploads = UploadPool(upload_memory, part_size)
        self._keys = BucketKeys(bucket, self.prefix + "/" if self.prefix else "")
        said = conditional_writes if client is None else self._conditional
        self._conditions = Conditions(said, self._keys.root, amazon=endpoint_url is None)
        self._owner = {name: value for name, value in self.extra_put_kwargs.items() if name in _OWNER}
        self._always = {name: value for name, value in self.extra_put_kwargs.items() if name in _CUSTOMER_KEY}
        self._always |= self._owner
        self._client = ClientSource(
            client,
            region=region,
            endpoint_url=endpoint_url,
            ca_bundle=ca_bundle,
            prepare=self._conditions.watch,
            secrets=(access_key, secret_key, session_token),
            max_pool_connections=max_pool_connections,
            s3={"addressing_style": addressing_style} if addressing_style else None,
            request_checksum_calculation=request_checksum_calculation,
            response_checksum_validation=response_checksum_validation,
            **retry_config(retry_mode, max_attempts, connect_timeout, read_timeout),
        )
        self._deletes = ObjectDeletes(
            self._client, self._keys, self._owner, batches=batch_delete, purging=versions == "purge"
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
        return f"s3:{self._client.service}/{self.bucket}/{self.prefix}"

    def __repr__(self) -> str:
        prefix = f", prefix={self.prefix!r}" if self.prefix else ""
        return f"{type(self).__name__}(bucket={self.bucket!r}{prefix})"

    @property
    def abilities(self) -> frozenset[Ability]:
        """What this backend can do; NO_OVERWRITE is among it once the server is known to heed conditions.

        DIRECT_UPLOAD is not any more once the server is known not to: it could not tell which of two claims was first.
        """
        if self._conditions.heeded:
            return self._abilities | {Ability.NO_OVERWRITE}
        return self._abilities - {Ability.DIRECT_UPLOAD} if self._conditions.ignored else self._abilities

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
        settings: ObjectSettings | None = None,
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
            settings=settings,
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
        settings: ObjectSettings | None = None,
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
            self._uploads,
            stream,
            target,
            put_arguments(self.extra_put_kwargs, content_type, original_filename, settings),
            key,
            size=size,
            part_size=self._part_size,
            overwrite=not self._conditional,
        )
        return ref.replace(size=written)

    def get(self, ref: StoredObjectRef) -> bytes:
        """The whole content; raises ObjectNotFoundError."""
        return read_whole(self._client, self._source(ref), ref.location)

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        """A seekable stream that fetches the ranges that are read; raises ObjectNotFoundError.

        Reading raises BackendError if the object is another one by now, and ObjectNotFoundError if it was deleted.
        """
        head = self._head(ref.location)
        size, etag = head["ContentLength"], head["ETag"]
        return open_version(ObjectVersion(self._client, self._source(ref), ref.location, size, etag))

    def read_into(
        self, ref: StoredObjectRef, file: BinaryIO, *, follow: Callable[[bytes], object] | None = None
    ) -> int:
        """Write the object into a file, a few parts at once; raises as reading from :meth:`open` does."""
        return read_into(self._client, self._source(ref), ref.location, ref.size, file, follow)

    def exists(self, ref: StoredObjectRef) -> bool:
        """Whether there is an object at the ref's location."""
        with suppress(ObjectNotFoundError):
            return bool(self._head(ref.location))
        return False

    def stat(self, ref: StoredObjectRef) -> ObjectInfo:
        """Size and time of an object; raises ObjectNotFoundError."""
        head = self._head(ref.location)
        return ObjectInfo(ref.location, head["ContentLength"], head["LastModified"])

    def copy(
        self,
        ref: StoredObjectRef,
        *,
        key: str,
        content_type: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> None:
        """Copy an object on the server to the new location ``key``; raises ObjectNotFoundError, ObjectExistsError.

        The copy gets its type, disposition, metadata and tags as a put would, and none from the object. The server is
        asked first whether something is there: older ones know no condition for this. Raises BackendError if the object
        changes meanwhile.
        """
        self._copy(self._keys.target(ref.location), ref, key, content_type, settings)

    def copies_from(self, source: StorageBackend) -> bool:
        """Whether ``source`` is a bucket of the same service, read without a key of the customer's."""
        return (
            isinstance(source, S3StorageBackend)
            and (source._endpoint_url, source._client.given) == (self._endpoint_url, self._client.given)
            and source._always == self._always == self._owner
        )

    def copy_from(
        self,
        source: StorageBackend,
        ref: StoredObjectRef,
        *,
        key: str,
        content_type: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> None:
        """As :meth:`copy`, from another bucket, which this one's credentials must be able to read."""
        assert isinstance(source, S3StorageBackend)
        self._copy(source._keys.target(ref.location), ref, key, content_type, settings)

    def _copy(
        self,
        source: Mapping[str, str],
        ref: StoredObjectRef,
        key: str,
        content_type: str | None,
        settings: ObjectSettings | None,
    ) -> None:
        target = self._keys.target(key)
        if self._conditional:
            with suppress(ObjectNotFoundError):
                self._head(key, sure=False)
                raise ObjectExistsError(f"an object is at {key!r} in bucket {self.bucket!r} already; choose another")
        arguments = copy_arguments(self.extra_put_kwargs, ref, content_type, settings)
        copy_object(self._client(), source, target, arguments, location=ref.location, overwrite=not self._conditional)

    def presign_get(self, ref: StoredObjectRef, *, expires: int, content_type: str, content_disposition: str) -> str:
        """A URL (SigV4) that gives the object to whoever has it, with these two headers; no request is made.

        :param expires: seconds, 604 800 (7 days) at most; a URL of temporary credentials ends with them.
        :raises InvalidURLError: if ``expires`` is longer.
        :raises ConfigurationError: if there are no credentials to sign with.
        :raises NotSupportedError: if reading needs headers that no browser sends: SSE-C, or a requester who pays.
        """
        headers = {"ResponseContentType": content_type, "ResponseContentDisposition": content_disposition}
        request = {**self._keys.target(ref.location), **headers}
        return presign_get(self._client(), request, ref.location, expires, sent=self._always)

    def object_path(self, ref: StoredObjectRef) -> str:
        """The key of the object in the bucket; raises InvalidLocationError."""
        return self._keys.target(ref.location)["Key"]

    def delete(self, ref: StoredObjectRef) -> None:
        """Delete the object; nothing happens if there is none."""
        self._deletes.one(ref)

    def delete_many(self, refs: Sequence[StoredObjectRef]) -> list[DeleteFailure]:
        """Delete objects, a thousand in a request; gives those that could not be deleted.

        What fails for now (``SlowDown``, ``InternalError``, ...) is tried again as often as the client's own retry
        settings say.
        """
        return self._deletes.many(refs)

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        """All locations in the folder ``prefix``; raises InvalidLocationError."""
        return (found.location for found in self._listed(prefix, ordered=False))

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects in the folder ``prefix`` in byte order, those after ``start_after``; raises InvalidLocationError."""
        return self._listed(prefix, start_after, ordered=True)

    def remove_leftovers(
        self, before: datetime, *, prefixes: Collection[str] | None = None, dry_run: bool = False
    ) -> int:
        """Abort the multipart uploads below the prefix that began before ``before``; raises BackendError.

        The user needs ``s3:ListBucketMultipartUploads`` and ``s3:AbortMultipartUpload``. Direct uploads that were made
        before go, too, claimed or not; they alone with the option ``leftovers=False``.

        :param prefixes: only those to locations in these folders: others may be another program's.
        :returns: how many uploads were, or with ``dry_run`` would be, aborted or deleted.
        """
        count = 0
        if self._leftovers:
            target = {"Bucket": self.bucket, **self._owner}
            count = abort_uploads(self._client(), target, self._keys.root, before, prefixes, dry_run=dry_run)
        waiting = self._waiting()
        listed = partial(waiting._listed, ordered=False)
        return count + remove_incoming(waiting, listed, before, prefixes, dry_run=dry_run)

    def presign_upload(self, *, key: str, method: str, conditions: UploadConditions) -> PresignedRequest:
        """A request by which a browser uploads to ``.incoming/<key>``; raises NotSupportedError."""
        return presign_upload(self._client(), incoming_keys(self._keys).target(key), method, conditions)

    def incoming(self, key: str) -> S3Incoming:
        """What a browser uploaded to ``.incoming/<key>``."""
        arguments = partial(put_arguments, self.extra_put_kwargs)
        return S3Incoming(self._client, self._keys, key, self._waiting(), self._owner, arguments)

    def _waiting(self) -> Self:
        """This backend as it is below ``.incoming``."""
        waiting = copy(self)
        waiting._keys = incoming_keys(self._keys)
        waiting._deletes = self._deletes.of(waiting._keys)
        return waiting

    def _listed(self, prefix: str | None, start_after: str | None = None, *, ordered: bool) -> Iterator[ObjectInfo]:
        target = {"Bucket": self.bucket, **self._owner}
        return list_objects(self._client(), target, self._keys.root, folder_of(prefix), start_after, ordered=ordered)

    def _source(self, ref: StoredObjectRef) -> dict[str, Any]:
        return {**self._keys.target(ref.location), **self._always}

    def _head(self, location: str, *, sure: bool = True) -> Any:
        target = {**self._keys.target(location), **self._always}
        return head_object(self._client(), target, location, sure=sure)
