"""Signed tokens: what the application hands to a browser and gets back unchanged, or not at all.

A token is JSON with a signature by itsdangerous (HMAC-SHA256). It is readable by whoever has it, so nothing secret
may be in it. Its purpose is part of the key, so that a token made for one purpose is none for another.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from granite_storage.exceptions import ConfigurationError, TokenError, TokenExpiredError

__all__ = ["MIN_KEY_BYTES", "KeyRing", "SecretKeys"]

MIN_KEY_BYTES = 32
"""The shortest secret key, in bytes: RFC 7518 section 3.2 asks for as many as HMAC-SHA256 gives."""

SecretKeys = str | Sequence[str] | Callable[[], str | Sequence[str]]
"""A key; several, the newest first; or a callable that gives them, asked each time."""

_EXPIRY = "exp"
_LONGEST = 8192  # characters; what is longer is no token of ours


class KeyRing:
    """Secret keys: the first signs, all verify, so that a key can be replaced while tokens of the old one are out.

    :param given: see :data:`SecretKeys`; None for no keys at all: nothing can be signed then.
    :raises ConfigurationError: if a key is shorter than 32 bytes. With a callable, from the first use.

    >>> from datetime import UTC, datetime, timedelta
    >>> ring = KeyRing("example-only-" * 3)
    >>> token = ring.sign("tickets", {"seat": 7}, datetime.now(UTC) + timedelta(minutes=5))
    >>> ring.read("tickets", token)
    {'seat': 7}
    >>> ring.read("refunds", token)
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.TokenError: the token was not made here, not for this, or it was changed
    """

    __slots__ = ("_given",)

    def __init__(self, given: SecretKeys | None = None) -> None:
        self._given = given
        if given is not None and not callable(given):
            _checked(given)

    def __repr__(self) -> str:  # holds no key
        return "<KeyRing>"

    def sign(self, purpose: str, payload: Mapping[str, Any], expires_at: datetime) -> str:
        """A token, fit for URLs and forms, that :meth:`read` takes until ``expires_at`` (to the second).

        :param payload: JSON members; ``exp`` is taken.
        :raises ConfigurationError: if there are no keys, or itsdangerous is not installed.
        """
        signed = self._serializer(purpose).dumps({**payload, _EXPIRY: int(expires_at.timestamp())})
        return signed if isinstance(signed, str) else signed.decode()

    def read(self, purpose: str, token: str) -> dict[str, Any]:
        """The payload of a token.

        :raises TokenError: if it was not made with one of the keys, not for this purpose, or was changed.
        :raises TokenExpiredError: if it is too old.
        """
        serializer = self._serializer(purpose)
        from itsdangerous import BadData  # what is missing was told by now

        payload: Any = None
        if isinstance(token, str) and len(token) <= _LONGEST:  # type: ignore[redundant-expr]
            try:
                payload = serializer.loads(token)
            except (BadData, ValueError):
                payload = None
        if not isinstance(payload, dict) or not isinstance(payload.get(_EXPIRY), int):
            # Without a cause: itsdangerous' error repeats the token's signature.
            raise TokenError("the token was not made here, not for this, or it was changed")
        if payload.pop(_EXPIRY) <= time.time():
            raise TokenExpiredError("the token has expired; ask for a new one")
        return payload

    def _serializer(self, purpose: str) -> Any:
        if self._given is None:
            raise ConfigurationError(
                "tokens need a secret key: StorageManager(secret_keys=[...]), such as secrets.token_urlsafe(32) gives"
            )
        keys = _checked(self._given() if callable(self._given) else self._given)
        try:
            from itsdangerous import URLSafeSerializer
        except ImportError as error:
            raise ConfigurationError(
                "tokens need itsdangerous: install it with 'pip install granite-storage[direct]'"
            ) from error
        return URLSafeSerializer(
            list(reversed(keys)),  # it signs with the last
            salt=f"granite-storage.{purpose}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )


def _checked(given: str | Sequence[str]) -> list[str]:
    keys = [given] if isinstance(given, str) else list(given)
    if not keys or not all(isinstance(key, str) for key in keys):
        raise ConfigurationError("secret_keys is a str, or several of them, the newest first")
    for number, key in enumerate(keys, 1):
        length = len(key.encode())
        if length < MIN_KEY_BYTES:  # the message holds nothing of the key
            raise ConfigurationError(
                f"secret_keys: key {number} of {len(keys)} has {length} bytes, fewer than {MIN_KEY_BYTES}; "
                "make one with secrets.token_urlsafe(32)"
            )
    return keys
