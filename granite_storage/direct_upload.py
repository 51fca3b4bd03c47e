"""Direct uploads: a browser sends a file straight to the store, and the application claims it afterwards.

::

    presign_upload   ->  a location of its own below .incoming, a signed request, a signed token
    (the browser)    ->  .incoming/<location>                what the request allows, as often as it likes
    claim            ->  look: size, type, ETag
                         accept it as any upload: limits, sniffed type, validators; all pinned to the ETag
                         copy to a fresh location            on condition of the ETag
                         mark .incoming/<location>           the store lets exactly one claim do so
                         delete .incoming/<location>
    sweep            ->  uploads and marks older than the grace period go

The mark comes last, so that a claim that fails can be tried again; and it stays. The browser may upload anew until its
request expires, and the claimed file may be gone with its row: the token is used all the same. A mark lives for the
grace period after its claim, and a token for less than half of it after its making, so no token outlives its mark.

Here are the request and the token; :mod:`granite_storage.claiming` has the claim.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from granite_storage.backends.base import Ability, StorageBackend, has_ability
from granite_storage.backends.incoming import DirectUploadBackend, UploadConditions
from granite_storage.exceptions import (
    ConfigurationError,
    ContentTooLargeError,
    ContentTooSmallError,
    ContentTypeNotAllowedError,
    InvalidUploadError,
    NotSupportedError,
    TokenError,
)
from granite_storage.intake.filenames import clean_filename
from granite_storage.intake.media_types import OCTET_STREAM, charset_of, matches, normal_type
from granite_storage.intake.stream import in_bytes
from granite_storage.locations import new_location
from granite_storage.presigned import PresignedUpload

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy

__all__ = ["Ticket", "check_subject", "direct", "presign"]

_PURPOSE = "direct-upload"
_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=7)  # of a request signed with version 4


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a token says.

    :param policy: the policy's name.
    :param backend: the manager's name for its backend.
    :param location: the upload's, below ``.incoming``.
    :param subject: the digest of whom it is for, or None.
    :param filename: cleaned, or None.
    """

    policy: str
    backend: str
    location: str
    subject: str | None
    filename: str | None

    @classmethod
    def read(cls, manager: StorageManager, token: str) -> Ticket:
        """The ticket in a token; raises TokenError, TokenExpiredError."""
        try:
            return cls(**manager.keys.read(_PURPOSE, token))
        except TypeError:  # signed by another version
            raise TokenError("the token is not of this version; ask for a new one") from None

    def signed(self, manager: StorageManager, expires_at: datetime) -> str:
        """The token; raises ConfigurationError."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return manager.keys.sign(_PURPOSE, members, expires_at)


def presign(
    manager: StorageManager,
    policy: StoragePolicy,
    backend: StorageBackend,
    *,
    method: str,
    filename: str | None,
    content_type: str | None,
    size: int | None,
    expires: timedelta | None,
    subject: str | None,
) -> PresignedUpload:
    """Sign an upload under a policy; see :meth:`granite_storage.StorageManager.presign_upload`."""
    store = direct(policy, backend)
    for name, value in (("filename", filename), ("content_type", content_type)):
        if value is not None and not isinstance(value, str):
            raise InvalidUploadError(f"{name} is a str, not {type(value).__name__}")
    if policy.max_size is None:
        raise ConfigurationError(
            f"policy {policy.storage_key!r} has no max_size: whoever has a presigned upload could fill the store; "
            "give it one"
        )
    if method not in ("post", "put"):
        raise ConfigurationError(f"method is 'post' or 'put', not {method!r}")
    lifetime = _lifetime(manager, expires)
    location = new_location(policy.prefix)
    expires_at = datetime.now(UTC).replace(microsecond=0) + lifetime
    ticket = Ticket(
        policy.storage_key, policy.backend_key, location, _digest(location, subject), clean_filename(filename)
    )
    token = ticket.signed(manager, expires_at)
    smallest, largest = _sizes(policy, size)
    conditions = UploadConditions(_type_to_tell(policy, content_type), smallest, largest, lifetime)
    request = store.presign_upload(key=location, method=method.upper(), conditions=conditions)
    return PresignedUpload(
        request.url, request.method, request.fields, request.headers, token, expires_at, request.max_size
    )


def direct(policy: StoragePolicy, backend: StorageBackend) -> DirectUploadBackend:
    """The backend of a policy as one that takes direct uploads; raises NotSupportedError."""
    if not has_ability(backend, Ability.DIRECT_UPLOAD):
        raise NotSupportedError(
            f"backend {policy.backend_key!r} of policy {policy.storage_key!r} takes no direct uploads; let the browser "
            "send the file to the application, and give it to manager.store(), or use an S3 backend with "
            "conditional_writes"
        )
    return cast("DirectUploadBackend", backend)


def check_subject(ticket: Ticket, subject: str | None) -> None:
    """Refuse a token that is for somebody else; in constant time. Raises TokenError."""
    if not hmac.compare_digest(_digest(ticket.location, subject) or "", ticket.subject or ""):
        raise TokenError("the token was made for another subject")


def _digest(location: str, subject: str | None) -> str | None:
    """Of a subject: it may be a session's id, and whoever has the token can read it."""
    if subject is None:
        return None
    if not isinstance(subject, str) or not subject:  # type: ignore[redundant-expr]
        raise ConfigurationError(f"subject is a str that is not empty, or None, not {type(subject).__name__}")
    return hashlib.sha256(f"{location}\0{subject}".encode(errors="surrogatepass")).hexdigest()


def _lifetime(manager: StorageManager, expires: timedelta | None) -> timedelta:
    if expires is None:
        return min(_HOUR, manager.grace / 4)
    if not isinstance(expires, timedelta) or expires < timedelta(seconds=1):  # type: ignore[redundant-expr]
        raise ConfigurationError(f"expires is a timedelta of a second or more, not {expires!r}")
    if expires >= manager.grace / 2:
        raise ConfigurationError(
            f"expires ({expires}) must be under half of the manager's grace period, {manager.grace / 2}: "
            "a sweep removes uploads that are older than the grace period"
        )
    if expires > _LONGEST:
        raise ConfigurationError(
            f"expires ({expires}) is longer than {_LONGEST.days} days, the most that can be signed"
        )
    return expires


def _sizes(policy: StoragePolicy, size: Any) -> tuple[int, int]:
    smallest, largest = policy.min_size or 0, policy.max_size or 0
    if size is None:
        return smallest, largest
    if type(size) is not int or size < 0:
        raise InvalidUploadError(f"size is a number of bytes, 0 or more, not {size!r}")
    if size > largest:
        raise ContentTooLargeError(
            f"the upload is larger than {in_bytes(largest)}, the max_size of policy {policy.storage_key!r}"
        )
    if size < smallest:
        raise ContentTooSmallError(
            f"the upload has {in_bytes(size)}, fewer than {in_bytes(smallest)}, the min_size of policy "
            f"{policy.storage_key!r}"
        )
    return size, size


def _type_to_tell(policy: StoragePolicy, content_type: str | None) -> str:
    """The type that the browser must tell; with a slash at its end, what its type must begin with."""
    patterns = list(policy.content_types or ())
    takes = f"the content_types of policy {policy.storage_key!r} are {', '.join(patterns)}"
    if content_type is not None:
        kind = normal_type(content_type)
        if kind is None:
            raise InvalidUploadError(f"content_type {content_type[:80]!r} is no media type, such as 'image/png'")
        if patterns and not matches(kind, patterns):
            raise ContentTypeNotAllowedError(f"the upload is {kind}; {takes}")
        charset = charset_of(content_type)
        return f"{kind}; charset={charset}" if charset and kind.startswith("text/") else kind
    if not patterns or "*/*" in patterns:
        return OCTET_STREAM
    if len(patterns) > 1:
        raise ContentTypeNotAllowedError(
            f"a presigned upload is for one type, and {takes}: give the content_type that the browser tells (file.type)"
        )
    return patterns[0].removesuffix("*")
