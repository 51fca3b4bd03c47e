"""Storage policies: named slots that bind file fields to a backend, limits and a prefix."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field, fields
from types import NoneType
from typing import Any

from granite_storage.exceptions import ConfigurationError, InvalidLocationError
from granite_storage.locations import check_location

__all__ = ["StoragePolicy"]

_PATTERN = re.compile(r"\*/\*|[\w!#$&^.+-]+/(\*|[\w!#$&^.+-]+)", re.ASCII)


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

    def __post_init__(self) -> None:
        for name in ("content_types", "validators"):  # once: either may be an iterator
            value: Any = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        problems = list(self._problems())
        if problems:
            raise ConfigurationError(f"storage policy {self.storage_key!r} cannot be:", problems)
        if self.content_types is not None:
            object.__setattr__(self, "content_types", tuple(kind.lower() for kind in self.content_types))

    @property
    def prefix(self) -> str:
        """What every new location of this policy starts with, without slashes at its ends."""
        return (self.key_prefix or "").strip("/") or self.storage_key

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


def _limit_problems(min_size: Any, max_size: Any) -> Iterable[str]:
    fit = True
    for name, limit in (("max_size", max_size), ("min_size", min_size)):
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
            fit = False
            yield f"{name} must be a number of bytes, 0 or more, not {limit!r}"
    if fit and None not in (min_size, max_size) and min_size > max_size:
        yield f"min_size ({min_size}) is above max_size ({max_size})"
