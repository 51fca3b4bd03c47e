"""Storage policies: named slots that bind file fields to a backend, limits and a prefix."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from datetime import timedelta
from types import NoneType
from typing import Any

from granite_storage.exceptions import ConfigurationError, InvalidLocationError
from granite_storage.locations import check_location
from granite_storage.object_settings import Encryption, ObjectSettings

__all__ = ["StoragePolicy"]

_PATTERN = re.compile(r"\*/\*|[\w!#$&^.+-]+/(\*|[\w!#$&^.+-]+)", re.ASCII)

_SETTINGS = tuple(option.name for option in fields(ObjectSettings))
_PUBLIC_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*"
)


@dataclass(frozen=True, slots=True)
class StoragePolicy:
    """A named slot: which backend, which limits, which prefix.

    :param storage_key: the policy's name, which refs record and ``FileColumn`` asks for.
    :param backend_key: the name under which the manager knows the backend.
    :param max_size: the largest content accepted, in bytes; no limit by default.
    :param key_prefix: what precedes the date in locations; the storage key by default.
    :param min_size: the smallest content accepted, in bytes (1 refuses empty files); no limit by default.
    :param content_types: the content types accepted, such as ``("image/*", "application/pdf")``; all by default.
    :param validators: callables that get a :class:`~granite_storage.Candidate` and raise
        :class:`~granite_storage.ValidationError` to refuse it.
    :param checksum: the hash that refs record: any fixed-length algorithm of :mod:`hashlib`.
    :param retain: for how long freed objects are kept: as long as a backup, a lagging replica or a URL may name them.
        They stay in the outbox, which such a policy needs; by default they go right after the commit.
    :param cache_control: this and the next five are the options of :class:`~granite_storage.ObjectSettings`, for each
        object. A backend without OBJECT_SETTINGS ignores them, except encryption, which it cannot promise: an error.
    :param public_url: the base URL of a CDN or web server that gives the backend's objects to anybody, such as
        ``"https://cdn.example.com"``: :meth:`StoredFile.url` gives a URL below it.
    :param former_prefixes: prefixes that the policy had before, where objects of it still are; without the option
        :class:`~granite_storage.gc.StorageGarbageCollector` does not look there.
    :raises ConfigurationError: naming the option that cannot be.

    >>> policy = StoragePolicy("documents", "local", 10 * 2**20, "docs", content_types=("application/pdf",))
    >>> policy.prefix
    'docs'
    >>> StoragePolicy("covers", "local").prefix
    'covers'
    """

    storage_key: str
    backend_key: str
    max_size: int | None = None
    key_prefix: str | None = None
    _: KW_ONLY
    min_size: int | None = None
    content_types: Iterable[str] | None = None
    validators: Iterable[Callable[[Any], None]] = field(default=())
    checksum: str = "sha256"
    retain: timedelta = timedelta(0)
    cache_control: str | None = None
    metadata: Mapping[str, str] | None = field(default=None, hash=False)
    storage_class: str | None = None
    encryption: Encryption | None = None
    kms_key_id: str | None = None
    tags: Mapping[str, str] | None = field(default=None, hash=False)
    public_url: str | None = None
    former_prefixes: Iterable[str] = field(default=())
    settings: ObjectSettings = field(default=ObjectSettings(), init=False, repr=False, compare=False)
    """What the backend is told about each object."""

    def __post_init__(self) -> None:
        for name in ("content_types", "validators", "former_prefixes"):  # once: either may be an iterator
            value: Any = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        problems = list(self._problems())
        if problems:
            raise ConfigurationError(f"storage policy {self.storage_key!r} cannot be:", problems)
        if self.content_types is not None:
            object.__setattr__(self, "content_types", tuple(kind.lower() for kind in self.content_types))
        settings = ObjectSettings(*(getattr(self, name) for name in _SETTINGS))
        for name, value in (("settings", settings), ("metadata", settings.metadata), ("tags", settings.tags)):
            object.__setattr__(self, name, value)
        if self.public_url is not None:
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))

    @property
    def prefix(self) -> str:
        """What every new location of this policy starts with, without slashes at its ends."""
        return (self.key_prefix or "").strip("/") or self.storage_key

    def everywhere(self) -> Iterator[StoragePolicy]:
        """The policy, and as it was under each of its former prefixes."""
        yield self
        for prefix in self.former_prefixes:
            yield replace(self, key_prefix=prefix, former_prefixes=())

    def _problems(self) -> Iterable[str]:
        options: dict[str, Any] = {option.name: getattr(self, option.name) for option in fields(self)}
        for name in ("storage_key", "backend_key"):
            if not isinstance(options[name], str) or not options[name]:
                yield f"{name} must be a non-empty str, not {options[name]!r}"
                return
        if not isinstance(options["key_prefix"], (str, NoneType)):
            yield f"key_prefix must be a str, not {options['key_prefix']!r}"
            return
        try:
            check_location(self.prefix)
        except InvalidLocationError as error:
            yield f"its prefix makes no location: {error}"
        yield from _limit_problems(options["min_size"], options["max_size"])
        patterns = options["content_types"]
        if patterns is not None and not isinstance(patterns, tuple):
            yield f"content_types must be several patterns, such as ('image/*',), not {patterns!r}"
        for pattern in patterns if isinstance(patterns, tuple) else ():
            if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
                yield f"content_types: {pattern!r} is no pattern such as 'image/*' or 'application/pdf'"
        if not isinstance(options["validators"], tuple):
            yield f"validators must be several callables, such as (no_drafts,), not {options['validators']!r}"
        for validator in options["validators"] if isinstance(options["validators"], tuple) else ():
            if not callable(validator):
                yield f"validators: {validator!r} is not callable"
        checksum = options["checksum"]
        if checksum not in sorted(hashlib.algorithms_guaranteed) or checksum.startswith("shake"):
            yield f"checksum: {checksum!r} is no fixed-length algorithm of hashlib, such as 'sha256'"
        if not isinstance(options["retain"], timedelta) or options["retain"] < timedelta(0):
            yield f"retain must be a timedelta, 0 or more, such as timedelta(days=7), not {options['retain']!r}"
        try:
            ObjectSettings(*(options[name] for name in _SETTINGS))
        except ConfigurationError as error:
            yield from error.problems
        yield from self._former_problems(options["former_prefixes"])
        url = options["public_url"]
        if url is not None and not (isinstance(url, str) and _PUBLIC_URL.fullmatch(url)):
            yield (  # not shown: it may hold a secret
                "public_url must be a base URL such as 'https://cdn.example.com/files', percent-encoded, with no user, "
                "query or fragment"
            )

    def _former_problems(self, former: Any) -> Iterable[str]:
        if not isinstance(former, tuple):
            yield f"former_prefixes must be several prefixes, such as ('documents',), not {former!r}"
            return
        for prefix in former:
            try:
                check_location(prefix)
            except InvalidLocationError as error:
                yield f"former_prefixes: {error}"
                continue
            if f"{prefix}/".startswith(f"{self.prefix}/") or self.prefix.startswith(f"{prefix}/"):
                yield (
                    f"former_prefixes: {prefix!r} and the prefix {self.prefix!r} are the same, or one is inside the "
                    "other; give the policy a key_prefix beside it"
                )


def _limit_problems(min_size: Any, max_size: Any) -> Iterable[str]:
    fit = True
    for name, limit in (("max_size", max_size), ("min_size", min_size)):
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
            fit = False
            yield f"{name} must be a number of bytes, 0 or more, not {limit!r}"
    if fit and None not in (min_size, max_size) and min_size > max_size:
        yield f"min_size ({min_size}) is above max_size ({max_size})"
