"""One multipart upload: begun, completed, and aborted whatever goes wrong in between.

S3 keeps the parts of an upload that is neither completed nor aborted, and charges for them; no listing of objects shows
them. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from granite_storage.backends.s3_errors import s3_errors
from granite_storage.backends.s3_landed import landed, marked, undone_if_interrupted

__all__ = ["Multipart", "multipart", "taken_by"]

_log = logging.getLogger(__name__)
_OWNER = ("RequestPayer", "ExpectedBucketOwner")
_AGAIN = (*_OWNER, "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")


@dataclass(frozen=True, slots=True)
class Multipart:
    """An upload that was begun.

    :param target: ``Bucket`` and ``Key``.
    :param upload_id: the server's name of it.
    :param arguments: those it was begun with.
    """

    client: Any
    target: Mapping[str, str]
    upload_id: str
    arguments: Mapping[str, Any]

    @property
    def part(self) -> dict[str, Any]:
        """What a request about one of its parts says, but for the part."""
        again = {name: value for name, value in self.arguments.items() if name in _AGAIN}
        return {**self.target, **again, "UploadId": self.upload_id}

    def complete(self, parts: Iterable[Mapping[str, Any]], *, overwrite: bool) -> str:
        """Make an object of its parts, which are in order, and give its ETag; raises what boto3 raises.

        :param parts: ``PartNumber``, ``ETag`` and, if it was sent with one, the checksum of each.
        :param overwrite: whether an object that is there may be replaced.
        """
        asked = {**self.part, "MultipartUpload": {"Parts": list(parts)}}
        if not overwrite:
            asked["IfNoneMatch"] = "*"
        try:
            with undone_if_interrupted(self.client, self.target, self.arguments):
                return str(self.client.complete_multipart_upload(**asked)["ETag"])
        except Exception as error:
            etag = landed(self.client, self.target, self.arguments, error)
            if etag is None:
                raise
            return etag

    def abort(self) -> None:
        """Drop it and its parts. A failure is only logged: a sweep aborts what was left over."""
        owner = {name: value for name, value in self.arguments.items() if name in _OWNER}
        try:
            self.client.abort_multipart_upload(**self.target, **owner, UploadId=self.upload_id)
        except self.client.exceptions.NoSuchUpload:
            pass  # completed, or aborted, meanwhile
        except Exception as error:  # noqa: BLE001 - what made it fail is to come out, not this
            _log.warning("a multipart upload could not be aborted and is left to the sweep: %s", type(error).__name__)


@contextmanager
def multipart(
    client: Any, target: Mapping[str, str], arguments: Mapping[str, Any], *, location: str, doing: str
) -> Iterator[Multipart]:
    """Begin an upload. If the block raises it is aborted: no part may be on its way any more by then.

    :param arguments: of PutObject; those that CreateMultipartUpload takes are used.
    :param location: how errors call the object.
    :param doing: what errors say that failed, such as ``"storing"``.
    """
    arguments = marked(taken_by(client, "CreateMultipartUpload", arguments))
    with s3_errors(target["Bucket"], location, doing):
        begun = client.create_multipart_upload(**target, **arguments)
    upload = Multipart(client, target, begun["UploadId"], arguments)
    try:
        yield upload
    except BaseException:
        upload.abort()
        raise


def taken_by(client: Any, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of PutObject's arguments that another operation takes, too, as the client's own model tells."""
    known = client.meta.service_model.operation_model(operation).input_shape.members
    return {name: value for name, value in arguments.items() if name in known}
