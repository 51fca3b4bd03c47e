"""What a store is told about an object besides its bytes and its type: caching, metadata, cost, encryption, tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from granite_storage.exceptions import ConfigurationError
from granite_storage.frozen import freeze

__all__ = ["Encryption", "ObjectSettings"]

Encryption = Literal["SSE-S3", "SSE-KMS"]
"""Who holds the key of what the server encrypts: the store itself, or its key management service."""

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html: 2 KB of user-defined metadata, names and
# values together, of which 48 bytes are for the backend's own (s3_landed.MARK); and as much of system-defined metadata,
# which the content's type and disposition share with Cache-Control.
_MAX_METADATA = 2000
_MAX_CACHE_CONTROL = 256

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html; characters (of UTF-16) as in
# https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/allocation-tag-restrictions.html
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 10, 128, 256

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2: a token, since it is part of a header
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?|")  # a space at an end would not survive
_STORAGE_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # S3's are fixed; other servers have classes of their own
_TAG = re.compile(r"[\w +=.:/@-]*")


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """What a policy says about each object, for a backend with :attr:`~granite_storage.Ability.OBJECT_SETTINGS`.

    :param cache_control: the ``Cache-Control`` that the object is served with, such as ``"private, max-age=3600"``;
        256 characters at most.
    :param metadata: names and values (ASCII, 2000 bytes in all) that the store keeps with the object. Names are in
        lower case here: S3 makes them so.
    :param storage_class: such as ``"STANDARD_IA"`` or ``"GLACIER_IR"``.
    :param encryption: ``"SSE-S3"`` (the store's own keys) or ``"SSE-KMS"`` (keys of a key management service).
    :param kms_key_id: the key's id or ARN for SSE-KMS; the account's default key if none is given.
    :param tags: names and values; 10 at most, of 128 and 256 characters at most.
    :raises ConfigurationError: naming what a store would refuse, and its limit.

    >>> ObjectSettings(tags={"team": "billing"}).tags
    {'team': 'billing'}
    >>> ObjectSettings(encryption="SSE-S3", kms_key_id="mine")
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.ConfigurationError: object settings cannot be:
      - kms_key_id is for encryption='SSE-KMS', not for 'SSE-S3'
    """

    cache_control: str | None = None
    metadata: Mapping[str, str] | None = field(default=None, hash=False)
    storage_class: str | None = None
    encryption: Encryption | None = None
    kms_key_id: str | None = None
    tags: Mapping[str, str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigurationError("object settings cannot be:", problems)
        if self.metadata is not None:
            lower = {name.lower(): value for name, value in self.metadata.items()}
            object.__setattr__(self, "metadata", freeze(lower))
        if self.tags is not None:
            object.__setattr__(self, "tags", freeze(self.tags))

    def __bool__(self) -> bool:
        """Whether anything is set."""
        return self != _NOTHING

    def _problems(self) -> Iterable[str]:
        cache, storage_class, key = self.cache_control, self.storage_class, self.kms_key_id
        if cache is not None and not (_is(_VALUE, cache) and 0 < len(cache) <= _MAX_CACHE_CONTROL):
            yield f"cache_control must be 1 to {_MAX_CACHE_CONTROL} printable ASCII characters, not {_shown(cache)}"
        if storage_class is not None and not _is(_STORAGE_CLASS, storage_class):
            yield f"storage_class must be a name such as 'STANDARD_IA', not {_shown(storage_class)}"
        if self.encryption not in (None, "SSE-S3", "SSE-KMS"):
            yield f"encryption must be 'SSE-S3' or 'SSE-KMS', not {_shown(self.encryption)}"
        elif key is not None and self.encryption != "SSE-KMS":
            yield f"kms_key_id is for encryption='SSE-KMS', not for {self.encryption!r}"
        elif key is not None and (not _is(_VALUE, key) or not key):
            yield f"kms_key_id must be a key's id or ARN, not {_shown(key)}"
        yield from _metadata_problems(self.metadata)
        yield from _tag_problems(self.tags)


def _metadata_problems(metadata: Any) -> Iterable[str]:
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        yield f"metadata must be a dict, such as {{'project': 'apollo'}}, not {_shown(metadata)}"
        return
    for name, value in metadata.items():
        if not _is(_NAME, name):
            yield f"metadata: {_shown(name)} is no name of ASCII letters, digits and signs such as '-'"
        elif not _is(_VALUE, value):
            yield (
                f"metadata: the value of {name!r} must be printable ASCII with no space at its ends, "
                f"not {_shown(value)}; percent-encode it"
            )
    names = [name.lower() for name in metadata if isinstance(name, str)]
    if len(set(names)) < len(names):
        yield "metadata: two names differ only in case, which S3 does not keep"
    size = sum(len(str(name).encode()) + len(str(value).encode()) for name, value in metadata.items())
    if size > _MAX_METADATA:
        yield f"metadata has {size} bytes, names and values together; there is room for {_MAX_METADATA} in S3"


def _tag_problems(tags: Any) -> Iterable[str]:
    if tags is None:
        return
    if not isinstance(tags, Mapping):
        yield f"tags must be a dict, such as {{'team': 'billing'}}, not {_shown(tags)}"
        return
    if len(tags) > _MAX_TAGS:
        yield f"tags are {len(tags)}; S3 takes {_MAX_TAGS} an object"
    for name, value in tags.items():
        if not _is(_TAG, name) or not 0 < _length(name) <= _MAX_TAG_KEY or name.lower().startswith("aws:"):
            yield (
                f"tags: {_shown(name)} is no name of 1 to {_MAX_TAG_KEY} letters, digits, spaces and '+-=._:/@' "
                "that does not begin with 'aws:'"
            )
        elif not _is(_TAG, value) or _length(value) > _MAX_TAG_VALUE:
            yield (
                f"tags: the value of {name!r} must be at most {_MAX_TAG_VALUE} letters, digits, spaces and '+-=._:/@', "
                f"not {_shown(value)}"
            )


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


_NOTHING = ObjectSettings()
