"""What is recorded with an object of S3: the arguments of PutObject, and of a copy, from a policy's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from granite_storage.intake.media_types import OCTET_STREAM
from granite_storage.object_settings import ObjectSettings
from granite_storage.refs import StoredObjectRef
from granite_storage.serving import content_disposition

__all__ = ["copy_arguments", "put_arguments"]

_ENCRYPTION = {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}
_OTHER_KEYS = ("SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled")


def put_arguments(
    given: Mapping[str, Any], content_type: str | None, filename: str | None, settings: ObjectSettings | None
) -> dict[str, Any]:
    """The arguments of PutObject but for bucket, key and body.

    :param given: the backend's own, before which the settings go, each as a whole.

    >>> put_arguments({"CacheControl": "no-store"}, "image/png", None, ObjectSettings("private", tags={"a b": "c"}))
    {'CacheControl': 'private', 'ContentType': 'image/png', 'ContentDisposition': 'inline', 'Tagging': 'a%20b=c'}
    """
    arguments = dict(given)
    if content_type:
        arguments["ContentType"] = content_type
    # Never the backend's: whoever gets a URL of the bucket itself must not be shown a page that somebody uploaded.
    arguments["ContentDisposition"] = content_disposition(arguments.get("ContentType"), filename)
    if settings is None:
        return arguments
    if settings.cache_control is not None:
        arguments["CacheControl"] = settings.cache_control
    if settings.metadata is not None:
        arguments["Metadata"] = dict(settings.metadata)
    if settings.storage_class is not None:
        arguments["StorageClass"] = settings.storage_class
    if settings.tags is not None:
        arguments["Tagging"] = urlencode(settings.tags, quote_via=quote)
    if settings.encryption is not None:
        for name in _OTHER_KEYS if settings.encryption == "SSE-S3" or settings.kms_key_id else ():
            arguments.pop(name, None)
        arguments["ServerSideEncryption"] = _ENCRYPTION[settings.encryption]
        if settings.kms_key_id is not None:
            arguments["SSEKMSKeyId"] = settings.kms_key_id
    return arguments


def copy_arguments(
    given: Mapping[str, Any], ref: StoredObjectRef, content_type: str | None, settings: ObjectSettings | None
) -> dict[str, Any]:
    """The arguments of a copy but for source, bucket and key: those of a put, in place of all that the source has."""
    kind = content_type or ref.content_type or OCTET_STREAM  # what S3 takes an object of no type for, by another name
    return put_arguments(given, kind, ref.original_filename, settings)
