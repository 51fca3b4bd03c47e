"""Copies inside S3: the server moves the bytes, in one request or, for a large object, in several side by side.

Each request is on condition of the source's ETag, so that a copy never holds bytes of two versions of it. Some servers,
Ceph's gateway among them, overlook the condition; so where the copy's own ETag proves nothing the source is looked at
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from granite_storage.backends.s3_checksum import checksums_in
from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_head import ask_head
from granite_storage.backends.s3_landed import landed, marked, undone_if_interrupted
from granite_storage.backends.s3_multipart import Multipart, multipart, taken_by
from granite_storage.backends.s3_parts import MAX_PARTS
from granite_storage.exceptions import BackendError

__all__ = ["COPY_IN_PARTS", "copy_object"]

COPY_IN_PARTS = 1024**3
"""Copies of more bytes than this are made in parts. S3 takes 5 GiB in one request, but needs longer for so much than
boto3 waits for an answer, a minute."""

_PART_SIZE = 256 * 1024**2
_THREADS = 8


def copy_object(
    client: Any,
    source: Mapping[str, str],
    target: Mapping[str, str],
    arguments: Mapping[str, Any],
    *,
    location: str,
    overwrite: bool,
    if_match: str | None = None,
) -> str:
    """Copy an object on the server.

    What is recorded with the copy (type, metadata, tags) is what ``arguments`` say, and nothing that the source has.

    :param source: its ``Bucket`` and ``Key``.
    :param target: likewise.
    :param arguments: arguments of PutObject.
    :param location: how errors call the source.
    :param overwrite: whether an object that is at ``target`` may be replaced. A copy in one request does not ask: no
        server but Amazon's newest knows a condition for it.
    :param if_match: the ETag that the source must have; by default the one that it has now.
    :returns: the copy's ETag.
    :raises ObjectNotFoundError: if the source is missing.
    :raises ObjectExistsError: if a copy in parts finds an object at ``target`` when it is complete.
    :raises BackendError: if the source has another ETag, or changes meanwhile; or if the server fails. Nothing is
        visible then.
    """
    customer = {name: value for name, value in arguments.items() if name.startswith("SSECustomer")}
    owner = {name: arguments[name] for name in ("RequestPayer", "ExpectedBucketOwner") if name in arguments}
    with _source_errors(source, location):
        head = ask_head(client, {**source, **customer, **owner, **({"IfMatch": if_match} if if_match else {})})
    read = {
        "CopySource": dict(source),
        "CopySourceIfMatch": if_match or head["ETag"],
        **{f"CopySource{name}": value for name, value in customer.items()},
    }
    if "ExpectedBucketOwner" in owner:
        read["ExpectedSourceBucketOwner"] = owner["ExpectedBucketOwner"]
    if head["ContentLength"] <= COPY_IN_PARTS:
        with _source_errors(source, location):
            copied = _in_one(client, target, arguments, read)
        try:
            if copied != read["CopySourceIfMatch"]:  # so it is, too, if the server encrypts, or if it came in parts
                _check_unchanged(client, source, customer | owner, read["CopySourceIfMatch"], location)
        except BaseException:
            with suppress(Exception):
                client.delete_object(**target, **owner)
            raise
        return copied
    size = head["ContentLength"]
    return _in_parts(client, source, target, arguments, read, customer | owner, size, location, overwrite)


def _in_one(client: Any, target: Mapping[str, str], arguments: Mapping[str, Any], read: Mapping[str, Any]) -> str:
    replaced = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
    wanted = marked(taken_by(client, "CopyObject", arguments))
    try:
        with undone_if_interrupted(client, target, wanted):
            answer = client.copy_object(**target, **wanted, **read, **replaced)
    except Exception as error:
        etag = landed(client, target, wanted, error)
        if etag is None:
            raise
        return etag
    return str(answer["CopyObjectResult"]["ETag"])


def _in_parts(
    client: Any,
    source: Mapping[str, str],
    target: Mapping[str, str],
    arguments: Mapping[str, Any],
    read: Mapping[str, Any],
    asked: Mapping[str, Any],
    size: int,
    location: str,
    overwrite: bool,
) -> str:
    step = max(_PART_SIZE, -(-size // MAX_PARTS))

    def copy(upload: Multipart, number: int) -> dict[str, Any]:
        start = (number - 1) * step
        with _source_errors(source, location):
            answer = client.upload_part_copy(
                **upload.part, **read, PartNumber=number, CopySourceRange=f"bytes={start}-{min(start + step, size) - 1}"
            )
        result = answer["CopyPartResult"]
        sums = checksums_in(result) if "ChecksumAlgorithm" in upload.arguments else {}
        return {"PartNumber": number, "ETag": result["ETag"], **sums}

    with multipart(client, target, arguments, location=location, doing="copying") as upload:
        # When one part fails, leaving the block waits for those on their way and makes no more of them.
        with _threads(min(_THREADS, -(-size // step))) as pool:
            parts = list(pool.map(lambda number: copy(upload, number), range(1, -(-size // step) + 1)))
        _check_unchanged(client, source, asked, read["CopySourceIfMatch"], location)
        with s3_errors(target["Bucket"], location, "copying"):
            return upload.complete(parts, overwrite=overwrite)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(count, thread_name_prefix="granite-storage-copy")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _check_unchanged(
    client: Any, source: Mapping[str, str], asked: Mapping[str, Any], etag: str, location: str
) -> None:
    with _source_errors(source, location):
        if client.head_object(**source, **asked)["ETag"] != etag:
            raise _changed(source, location)


def _changed(source: Mapping[str, str], location: str) -> BackendError:
    return BackendError(
        f"{location!r} in bucket {source['Bucket']!r} was changed while it was copied; nothing was kept"
    )


@contextmanager
def _source_errors(source: Mapping[str, str], location: str) -> Iterator[None]:
    """As ``s3_errors``, for requests whose failed precondition means that the source is another object now."""
    from botocore.exceptions import ClientError

    with s3_errors(source["Bucket"], location, "copying"):
        try:
            yield
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) not in ("PreconditionFailed", "412"):
                raise
            raise _changed(source, location) from error
