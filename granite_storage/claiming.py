"""Claiming a direct upload: what a browser sent to the store becomes a stored file. :mod:`.direct_upload` tells how."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from granite_storage.backends.base import StorageBackend, in_folder
from granite_storage.backends.incoming import Incoming, IncomingObject
from granite_storage.deletion import discard, told
from granite_storage.direct_upload import Ticket, check_subject, direct
from granite_storage.exceptions import (
    InvalidUploadError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    TokenError,
    TokenUsedError,
    UnassignableError,
)
from granite_storage.intake.accept import Accepted, accept
from granite_storage.intake.stream import CHUNK_SIZE
from granite_storage.intake.upload import Upload
from granite_storage.locations import new_location
from granite_storage.refs import StoredObjectRef
from granite_storage.storing import settings_argument

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy

__all__ = ["claim", "ticket_for"]

_UNKNOWN = "binary/octet-stream"  # what S3 says where nobody told a type
_log = logging.getLogger("granite_storage")


def ticket_for(manager: StorageManager, token: str, subject: str | None, policy: str | None) -> Ticket:
    """What a token allows whom; nothing in the store is looked at yet.

    :raises TokenError: if it is forged, or another subject's or policy's.
    :raises TokenExpiredError: if it is too old.
    """
    ticket = Ticket.read(manager, token)
    check_subject(ticket, subject)
    if policy is not None and policy != ticket.policy:
        raise TokenError(f"the token was not made for policy {policy!r}")
    slot = manager.policies.get(ticket.policy)
    if slot is None or slot.backend_key != ticket.backend or not in_folder(ticket.location, slot.prefix):
        raise TokenError(f"policy {ticket.policy!r} is not what it was when the token was made; ask for a new one")
    return ticket


def claim(
    policy: StoragePolicy,
    backend: StorageBackend,
    ticket: Ticket,
    *,
    filename: str | None,
    extra: Mapping[str, Any] | None,
) -> StoredObjectRef:
    """Take an upload over; see :meth:`granite_storage.StorageManager.claim`."""
    incoming = direct(policy, backend).incoming(ticket.location)
    try:
        ref = _take(policy, backend, incoming, filename or ticket.filename, extra)
    except InvalidUploadError as error:
        if not isinstance(error, UnassignableError):  # which is what the application says of it, not the upload
            _discard(incoming)
        raise
    except StorageError as error:
        if isinstance(error, TokenUsedError) or incoming.claimed_by() is None:
            raise
        raise _used() from error  # by a claim at the same time, which took the upload away from this one
    _discard(incoming)
    return ref


def _take(
    policy: StoragePolicy,
    backend: StorageBackend,
    incoming: Incoming,
    filename: str | None,
    extra: Mapping[str, Any] | None,
) -> StoredObjectRef:
    try:
        found = incoming.look()
    except ObjectNotFoundError as error:
        raise ObjectNotFoundError(
            "nothing was uploaded with this token yet; claim it once the store has answered the upload"
        ) from error
    if incoming.claimed_by() is not None:
        _discard(incoming)  # the browser sent it again
        raise _used()
    claimed = None if found.content_type == _UNKNOWN else found.content_type
    with incoming.open(found) as stream, accept(Upload(stream, filename, claimed, extra), policy) as accepted:
        ref = StoredObjectRef(  # made before anything is copied, so that what no ref could say is refused at once
            policy.storage_key,
            policy.backend_key,
            new_location(policy.prefix, accepted.suffix),
            found.size,
            "",
            accepted.content_type,
            accepted.filename,
            datetime.now(UTC).isoformat(timespec="microseconds"),
            accepted.extra,
        )
        try:
            copied = incoming.copy(
                found,
                key=ref.location,
                content_type=accepted.content_type,
                original_filename=accepted.filename,
                checksum=policy.checksum,
                **settings_argument(backend, policy),
            )
            ref = ref.replace(
                checksum=copied.checksum or _checksum(policy, found, accepted),
                extra={**(copied.extra or {}), **(accepted.extra or {})} or None,
            )
            incoming.mark_claimed(ref.location)
        except BaseException as error:
            discard(backend, ref)
            if isinstance(error, ObjectExistsError):
                raise _used() from error
            raise
    return ref


def _checksum(policy: StoragePolicy, found: IncomingObject, accepted: Accepted) -> str:
    """The store's own, or what reading it all gives."""
    known = found.checksums.get(policy.checksum)
    if known is not None:
        return f"{policy.checksum}:{known}"
    while accepted.stream.read(CHUNK_SIZE):
        pass
    if accepted.size != found.size:
        raise StorageError(f"the upload gave {accepted.size} bytes, and the store says that it has {found.size}")
    return accepted.checksum


def _discard(incoming: Incoming) -> None:
    try:
        incoming.delete()
    except StorageError as error:
        _log.warning("an upload could not be deleted, a sweep will: %s", told(error))


def _used() -> TokenUsedError:
    return TokenUsedError("the token was used already: what was uploaded with it was claimed; ask for a new one")
