"""The options of an S3 backend: what a URL gives, and what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from granite_storage.backends.urls import BackendURL, boolean
from granite_storage.exceptions import ConfigurationError, InvalidLocationError
from granite_storage.locations import check_location

__all__ = ["check_options", "options_of"]

_SMALLEST_PART, _LARGEST_PART = 5 * 1024**2, 5 * 1024**3
_OURS = ("Body", "Bucket", "IfMatch", "IfNoneMatch", "Key")


def options_of(url: BackendURL) -> dict[str, Any]:
    """The keyword arguments of the backend that an S3 URL stands for.

    :raises ConfigurationError: if the bucket is missing, or an option is unknown or given twice.

    >>> options_of(BackendURL.parse("s3://bucket/live?region=eu-west-1"))
    {'bucket': 'bucket', 'prefix': '/live', 'region': 'eu-west-1'}
    """
    options = url.read_options(
        region=str,
        endpoint_url=str,
        ca_bundle=str,
        access_key=str,
        secret_key=str,
        session_token=str,
        addressing_style=str,
        request_checksum_calculation=str,
        response_checksum_validation=str,
        max_pool_connections=int,
        conditional_writes=boolean,
        ordered_listing=boolean,
        leftovers=boolean,
        part_size=int,
        upload_memory=int,
        versions=str,
        batch_delete=boolean,
        retry_mode=str,
        max_attempts=int,
        connect_timeout=float,
        read_timeout=float,
    )
    if not url.host or ":" in url.host:
        raise ConfigurationError(
            f"backend URL {url.masked!r}: an S3 URL names a bucket, as in 's3://bucket/prefix'; a server's address "
            "is the option endpoint_url"
        )
    for name, value in (("access_key", url.username), ("secret_key", url.password)):
        if value is not None and options.setdefault(name, value) != value:
            raise ConfigurationError(f"backend URL {url.masked!r} gives {name} twice")
    return {"bucket": url.host, "prefix": url.path, **options}


def check_options(
    bucket: str,
    prefix: str,
    extra_put_kwargs: Mapping[str, Any] | None,
    keys: tuple[str | None, ...],
    part_size: int,
    ca_bundle: str | None = None,
    *,
    upload_memory: int | None = None,
    versions: str = "keep",
) -> None:
    """Refuse options that make no sense, all of them at once; raises ConfigurationError."""
    problems = []
    if not bucket:
        problems.append("bucket: it may not be empty")
    try:
        check_location(prefix.strip("/") or "none")
    except InvalidLocationError as error:
        problems.append(f"prefix: {error}")
    if keys.count(None) == 1:
        problems.append("access_key and secret_key: give both or neither")
    if part_size < _SMALLEST_PART:
        problems.append(f"part_size: {part_size} bytes are less than {_SMALLEST_PART}, S3's least")
    if part_size > _LARGEST_PART:
        problems.append(f"part_size: {part_size} bytes are more than {_LARGEST_PART}, S3's most for one request")
    if upload_memory is not None and upload_memory < 1:
        problems.append(f"upload_memory: {upload_memory} is no number of bytes, 1 or more")
    if versions not in ("keep", "purge"):
        problems.append(f"versions: it is 'keep' or 'purge', not {versions!r}")
    if ca_bundle is not None and not Path(ca_bundle).exists():
        problems.append(f"ca_bundle: {ca_bundle!r} is neither a file nor a folder; it names certificates to trust")
    problems += [f"extra_put_kwargs: {name} is not yours to set" for name in _OURS if name in (extra_put_kwargs or {})]
    if problems:
        raise ConfigurationError(f"the S3 backend of bucket {bucket!r} cannot be:", problems)
