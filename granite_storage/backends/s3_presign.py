"""Presigned URLs of S3: always with Signature Version 4, and at the bucket's own endpoint.

Left to itself, botocore signs URLs with Signature Version 2 where a region still takes it, and for the global endpoint,
whose redirect to the bucket's region breaks the signature. Both are decided in events of the client, so a client of the
application's needs no settings for it, and its own URLs stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from granite_storage.backends.s3_errors import s3_errors
from granite_storage.exceptions import ConfigurationError, InvalidURLError, NotSupportedError

__all__ = ["MAX_EXPIRES", "presign_get", "signing_v4"]

MAX_EXPIRES = 7 * 24 * 3600
"""Seconds: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html, X-Amz-Expires."""

_HEADERS = ("RequestPayer", "SSECustomerKey")

_signing: ContextVar[bool] = ContextVar("granite_storage_signing", default=False)


def presign_get(
    client: Any, request: Mapping[str, Any], location: str, expires: int, *, sent: Collection[str] = ()
) -> str:
    """A URL for GetObject.

    :param request: the arguments of GetObject.
    :param location: how errors call the object.
    :param expires: seconds.
    :param sent: the names of arguments that go with every other request of the backend.
    :raises InvalidURLError: if that is longer than :data:`MAX_EXPIRES`.
    :raises ConfigurationError: if the client has no credentials.
    :raises NotSupportedError: if some of ``sent`` stand for headers without which the server gives nothing.
    """
    bucket = request["Bucket"]
    if headers := [name for name in sent if name in _HEADERS]:
        raise NotSupportedError(
            f"bucket {bucket!r} is not able to give URLs: its extra_put_kwargs have {', '.join(headers)}, a header "
            "that no browser sends; serve the file through the application"
        )
    if expires > MAX_EXPIRES:
        raise InvalidURLError(
            f"a URL of {location!r} in bucket {bucket!r} cannot be valid for {expires} seconds: S3 signs for "
            f"{MAX_EXPIRES} (7 days) at most, and with temporary credentials no longer than they last; give a new URL "
            "each time, or give the policy a public_url"
        )
    with s3_errors(bucket, location, "signing a URL for"), signing_v4(client, bucket):
        url: str = client.generate_presigned_url("get_object", Params=dict(request), ExpiresIn=expires)
    return url


@contextmanager
def signing_v4(client: Any, bucket: str) -> Iterator[None]:
    """What a client presigns in the ``with`` block is signed with SigV4 for the endpoint that it sends requests to.

    :raises ConfigurationError: if the client has no credentials.
    """
    from botocore import UNSIGNED
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    remedy = f"a URL of bucket {bucket!r} must be signed, and there are no credentials: give access_key and secret_key"
    if client.meta.config.signature_version is UNSIGNED:
        raise ConfigurationError(remedy + ", with a client that signs")
    events = client.meta.events
    # Registered once a client, because of their ids, and asked before botocore's own handlers.
    events.register_first("choose-signer.s3", _choose_v4, unique_id="granite-storage-signer")
    events.register_first("before-endpoint-resolution.s3", _at_region, unique_id="granite-storage-endpoint")
    before = _signing.set(True)
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(remedy + ", or set them up as boto3 finds them") from error
    finally:
        _signing.reset(before)


def _choose_v4(signature_version: Any, **_: Any) -> str | None:
    version, _sep, kind = str(signature_version).partition("-")  # such as "s3-query" or "v4-presign-post"
    return f"s3v4-{kind}" if _signing.get() and kind and version in ("s3", "s3v4", "v4") else None


def _at_region(context: dict[str, Any], **_: Any) -> None:
    if _signing.get():
        context["use_global_endpoint"] = False
