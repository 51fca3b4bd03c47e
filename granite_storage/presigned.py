"""A request that somebody else may make: signed, so that the store obeys it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["PresignedRequest", "PresignedUpload"]


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """An upload that the store takes from whoever has this.

    :param url: where it goes.
    :param method: ``"POST"``, a form, or ``"PUT"``, the content as the body.
    :param fields: the form's fields, which come before the file; empty for a PUT.
    :param headers: headers that must be sent as they are; empty for a POST.
    :param max_size: the most that the store takes, in bytes.
    """

    url: str = field(repr=False)
    method: str
    max_size: int
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PresignedUpload:
    """What a browser needs for a direct upload, from ``manager.presign_upload()``.

    :param url: where the upload goes.
    :param method: ``"POST"``, a form, or ``"PUT"``, the content as the body.
    :param fields: the form's fields; the file comes after them, as the field ``file``. Empty for a PUT. If there is
        no ``Content-Type`` among them, the form adds its own.
    :param headers: headers that must be sent as they are; empty for a POST.
    :param token: what ``manager.claim()`` takes, once, when the upload is done.
    :param expires_at: until when (UTC) the upload may begin and the token be claimed.
    :param max_size: the most that the store takes, in bytes.

    Whoever has it may upload; its repr holds no signature and no token.
    """

    url: str = field(repr=False)
    method: str
    fields: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime
    max_size: int

    def to_dict(self) -> dict[str, Any]:
        """It as plain JSON data, the time in ISO 8601."""
        return {
            "url": self.url,
            "method": self.method,
            "fields": dict(self.fields),
            "headers": dict(self.headers),
            "token": self.token,
            "expires_at": self.expires_at.isoformat(),
            "max_size": self.max_size,
        }
