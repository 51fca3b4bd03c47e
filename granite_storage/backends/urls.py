"""Backend URLs: ``scheme://user:password@host/path?option=value``, and what of them may be shown.

Everything is percent-decoded once (RFC 3986: a ``+`` is a plus sign, as in many secret keys). What could be a secret is
never shown: user and password, every option but those in :data:`HARMLESS`, and whatever a URL holds that is
not percent-encoded as it should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from granite_storage.exceptions import ConfigurationError

__all__ = ["HARMLESS", "BackendURL", "boolean", "mask_url"]

HARMLESS = frozenset(
    {
        "addressing_style",
        "ca_bundle",
        "conditional_writes",
        "endpoint_url",
        "fsync",
        "leftovers",
        "max_pool_connections",
        "mode",
        "ordered_listing",
        "region",
        "request_checksum_calculation",
        "response_checksum_validation",
    }
)
"""The options whose values are shown; a URL in one of them is masked in its turn."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BackendURL:
    """A backend's URL, taken apart. Its ``repr`` and ``str`` hold no secret.

    :param scheme: in lower case, such as ``"s3"``.
    :param host: as it was written (a bucket's name, a host, with a port if it has one), or empty.
    :param path: with its leading slash, or empty.
    :param options: the query's options.

    >>> url = BackendURL.parse("s3://AKIA:sec%2Fret@bucket/production?region=eu-west-1")
    >>> url.host, url.path, url.password
    ('bucket', '/production', 'sec/ret')
    >>> url
    BackendURL('s3://***@bucket/production?region=eu-west-1')
    """

    scheme: str
    host: str = ""
    path: str = ""
    username: str | None = None
    password: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    masked: str = ""

    @classmethod
    def parse(cls, url: str) -> BackendURL:
        """Take a URL apart.

        :raises ConfigurationError: if it is no URL, has a fragment, or gives an option twice or without a value.
        """
        match = _SCHEME.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                "a backend URL starts with '<scheme>://', such as 'file:///var/uploads', 'memory://' or 's3://bucket/prefix'"
            )
        scheme, rest = match[1].lower(), match[2]
        masked = mask_url(url)
        if "#" in rest:
            raise ConfigurationError(f"backend URL {masked!r} has a '#': write it as %23")
        if not rest.startswith("/") and "@" in "".join(re.split(r"([/?])", rest, maxsplit=1)[1:]):
            raise ConfigurationError(
                f"backend URL {masked!r} has a '@' after its host: write it as %40 (and in a password '/' as %2F)"
            )
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        userinfo, at, host = authority.rpartition("@")
        username, colon, password = userinfo.partition(":")
        return cls(
            scheme,
            unquote(host),
            unquote(slash + path),
            unquote(username) if at else None,
            unquote(password) if colon else None,
            _options(query, masked),
            masked,
        )

    def read_options(self, **known: Callable[[str], Any]) -> dict[str, Any]:
        """The options that were given, each converted.

        :param known: for each option that the backend knows, what converts its text, raising ValueError.
        :raises ConfigurationError: naming an option that is unknown (and those known), or that makes no sense.

        >>> BackendURL.parse("file:///srv?fsync=false").read_options(fsync=boolean)
        {'fsync': False}
        """
        read = {}
        for name, text in self.options.items():
            if name not in known:
                raise ConfigurationError(
                    f"backend URL {self.masked!r} has the unknown option {name!r}; "
                    f"a {self.scheme!r} URL knows {', '.join(known) or 'none'}"
                )
            try:
                read[name] = known[name](text)
            except ValueError as error:  # from None: the converter's own words may repeat a secret
                shown = f" ({error})" if name in HARMLESS else ""
                message = f"backend URL {self.masked!r}: the option {name!r} makes no sense{shown}"
                raise ConfigurationError(message) from None
        return read

    def __repr__(self) -> str:
        return f"BackendURL({self.masked!r})"

    def __str__(self) -> str:
        return self.masked


def boolean(text: str) -> bool:
    """Convert an option that is on or off.

    :raises ValueError: unless it is true, false, yes, no, on, off, 1 or 0.
    """
    word = text.lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError("expected true or false")


def mask_url(url: str) -> str:
    """A URL as it may be shown, in a log or in an error: without anything that could be a secret.

    Where a secret was not percent-encoded, and so reaches beyond the place it should be in, more is masked than needed.

    >>> mask_url("s3://AKIA:abc/def+@bucket/x?secret_key=s3cr3t&region=eu-west-1")
    's3://***@bucket/x?secret_key=***&region=eu-west-1'
    >>> mask_url("file:///var/uploads?fsync=false")
    'file:///var/uploads?fsync=false'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    rest, fragment, _ = rest.partition("#")
    userinfo = ""
    if not rest.startswith("/"):
        # The last '@' of all: a secret with a bare '/' in it reaches beyond the userinfo.
        userinfo, _, rest = rest.rpartition("@")
        if "?" in userinfo:
            rest = ""  # either a secret before it has a bare '?', or one after it a bare '@'
        colon, port = re.split(r"[/?]", rest, maxsplit=1)[0].partition(":")[1:]
        if colon and not port.isdigit():
            userinfo, rest = rest, ""  # looks like 'user:password' without its '@'
    address, question, query = rest.partition("?")
    options = "&".join(_mask_option(option) for option in query.split("&"))
    return "".join((scheme, "://", "***@" if userinfo else "", address, question, options, "#***" if fragment else ""))


def _mask_option(option: str) -> str:
    name, equals, value = option.partition("=")
    if unquote(name) not in HARMLESS:
        return name + equals + ("***" if value else "") if equals else ("***" if name else "")
    decoded = unquote(value)
    return name + equals + (mask_url(decoded) if "://" in decoded else value)


def _options(query: str, masked: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in filter(None, query.split("&")):
        name, _, value = (unquote(part) for part in option.partition("="))
        if not value or name in options:
            what = "twice" if name in options else "without a value"
            shown = repr(name) if "=" in option else "an option"
            raise ConfigurationError(f"backend URL {masked!r} gives {shown} {what}")
        options[name] = value
    return options
