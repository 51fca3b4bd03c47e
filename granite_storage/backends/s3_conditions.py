"""Whether a server heeds ``If-None-Match: *``, on which an object is made only where there is none.

Amazon's does, for a PUT and for the end of a multipart upload:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html. Others refuse it, or take it and replace
the object all the same (``rclone serve s3``), or heed it for a PUT only (Ceph's gateway, version 16). So a server that
is not Amazon's is asked, by putting twice to a mark of ours, before the first put of a process; a later process finds
the mark and asks once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from granite_storage.backends.s3_checksum import checksum_of
from granite_storage.exceptions import NotSupportedError
from granite_storage.locations import INCOMING, MARKS

__all__ = ["MARK", "Conditions"]

MARK = f"{MARKS}/conditional-writes"
"""The location of the object that the server is asked with."""

_CONTENT = bytearray(b"With this object granite-storage finds out whether the server heeds If-None-Match.\n")
_ASKED_WITH = ("Bucket", "ExpectedBucketOwner", "RequestPayer", "SSE", "ServerSide")
_HEAD = ("Bucket", "Key", "ExpectedBucketOwner", "RequestPayer", "SSECustomer")
_log = logging.getLogger(__name__)


class Conditions:
    """What is known of one server, and what its clients do about it.

    :param heeded: what the application says; None to find out.
    :param root: what precedes locations in the bucket: with a slash at its end, or empty.
    :param amazon: whether the server is Amazon's as far as the application says.
    """

    def __init__(self, heeded: bool | None, root: str, *, amazon: bool) -> None:
        self._heeded = heeded
        self._mark = root + MARK
        self._incoming = f"{root}{INCOMING}/"
        self._amazon = amazon
        self._give_up = False

    @property
    def heeded(self) -> bool:
        """Whether the server is known to heed them."""
        return self._amazon if self._heeded is None else self._heeded

    @property
    def ignored(self) -> bool:
        """Whether the server is known not to heed them."""
        return self._heeded is False

    def watch(self, client: Any) -> None:
        """Let a client find out before its first conditional put, and do without where the server does not heed it.

        Where nothing was said, the server is asked whether an object is there before an upload in parts is completed:
        Ceph's gateway heeds the condition for single puts only. The mark of a claim is not put without the condition,
        by which alone one claim is told from another: that is a NotSupportedError.
        """
        self._amazon = _is_amazon(client.meta.endpoint_url)  # the environment, or a profile, may name another
        if self._amazon or self._heeded is not None:
            return
        lock = threading.Lock()  # one a client, so that a forked process has its own

        def before(params: dict[str, Any], context: Mapping[str, Any], **_: Any) -> None:
            if "IfNoneMatch" not in params or context.get("is_presign_request") or params.get("Key") == self._mark:
                return
            with lock:
                if self._heeded is None and not self._give_up:
                    self._find_out(client, params)
            if self._heeded is False:
                self._refuse_mark(params)
                del params["IfNoneMatch"]
            elif "MultipartUpload" in params:
                _refuse_if_taken(client, params)

        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"before-parameter-build.s3.{operation}", before)

    def _find_out(self, client: Any, params: Mapping[str, Any]) -> None:
        from botocore.exceptions import ClientError

        asked = {name: value for name, value in params.items() if name.startswith(_ASKED_WITH)}
        checked = checksum_of(client, {}, _CONTENT)
        for _ in range(2):
            try:
                client.put_object(**asked, **checked, Key=self._mark, Body=_CONTENT, IfNoneMatch="*")
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if status in (409, 412):
                    self._heeded = True
                elif status == 501:
                    self._do_without(params["Bucket"], "refuses")
                elif status == 403:
                    self._give_up = True  # the mark may not be put; what was asked for may be
                return  # of anything else the request itself will tell
        self._do_without(params["Bucket"], "ignores")

    def _refuse_mark(self, params: Mapping[str, Any]) -> None:
        if params["Key"].startswith(self._incoming):
            raise NotSupportedError(
                f"the server of bucket {params['Bucket']!r} does not heed If-None-Match, so nobody could tell which of "
                "two claims was first: it takes no direct uploads; let the browser send the file to the application"
            )

    def _do_without(self, bucket: str, what: str) -> None:
        self._heeded = False
        _log.warning(
            "the server of bucket %r %s If-None-Match: only the randomness of locations keeps objects from being "
            "replaced. conditional_writes=false says so beforehand, and the server is not asked again",
            bucket,
            what,
        )


def _is_amazon(endpoint_url: str) -> bool:
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _refuse_if_taken(client: Any, params: Mapping[str, Any]) -> None:
    from botocore.exceptions import ClientError

    try:
        client.head_object(**{name: value for name, value in params.items() if name.startswith(_HEAD)})
    except ClientError:
        return
    answer: Any = {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": 412}}
    raise ClientError(answer, "CompleteMultipartUpload")
