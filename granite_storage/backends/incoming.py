"""What a browser uploads straight to the store, and how a backend gives it to the manager.

It waits in the store's ``.incoming`` folder, at ``.incoming/<location>``, where no ref can name it and no listing shows
it. A claim looks at it, copies it to a location of its own, and marks it as claimed: the mark decides between claims
that run at once, and outlives the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import BinaryIO, Protocol

from granite_storage.object_settings import ObjectSettings
from granite_storage.presigned import PresignedRequest
from granite_storage.refs import StoredObjectRef

__all__ = ["DirectUploadBackend", "Incoming", "IncomingObject", "UploadConditions"]


@dataclass(frozen=True, slots=True)
class UploadConditions:
    """What a presigned upload must be; the store refuses any other.

    :param content_type: the type that must be told; or what it must begin with, if it ends with a slash.
    :param min_size: bytes.
    :param max_size: bytes.
    :param expires: from now on.
    """

    content_type: str
    min_size: int
    max_size: int
    expires: timedelta


@dataclass(frozen=True, slots=True)
class IncomingObject:
    """What was uploaded, as the store tells it.

    :param size: bytes.
    :param content_type: what the browser said it was.
    :param version: what the store calls this very content (an ETag).
    :param checksums: what the store knows of the whole content: algorithm -> hex digest.
    """

    size: int
    content_type: str | None
    version: str
    checksums: Mapping[str, str] = field(default_factory=dict)


class Incoming(Protocol):
    """The place of one upload."""

    def look(self) -> IncomingObject:
        """What is there; raises ObjectNotFoundError."""
        ...

    def open(self, found: IncomingObject) -> BinaryIO:
        """A seekable stream over this very content; reading raises BackendError once another is there."""
        ...

    def copy(
        self,
        found: IncomingObject,
        *,
        key: str,
        content_type: str,
        original_filename: str | None = None,
        checksum: str | None = None,
        settings: ObjectSettings | None = None,
    ) -> StoredObjectRef:
        """Copy this very content to the location ``key``, as a put would store it.

        :param settings: given only to a backend with :attr:`~granite_storage.Ability.OBJECT_SETTINGS`.
        :param checksum: an algorithm; where the store can compute it meanwhile, the ref has it. It is empty elsewhere.
        :raises ObjectNotFoundError: if it is gone.
        :raises BackendError: if another is there.
        """
        ...

    def claimed_by(self) -> str | None:
        """The location that :meth:`mark_claimed` noted, or None."""
        ...

    def mark_claimed(self, location: str) -> None:
        """Note that it was copied to a location.

        :raises ObjectExistsError: if another was noted; of several at once exactly one succeeds.
        """
        ...

    def delete(self) -> None:
        """Delete what is there, not the mark; nothing happens if there is nothing."""
        ...


class DirectUploadBackend(Protocol):
    """A backend with :attr:`~granite_storage.Ability.DIRECT_UPLOAD`.

    Its ``remove_leftovers`` removes uploads and marks, too: those whose location and time are both old.
    """

    def presign_upload(self, *, key: str, method: str, conditions: UploadConditions) -> PresignedRequest:
        """A request that uploads to the place of ``key``.

        :param method: ``"POST"`` or ``"PUT"``.
        :raises NotSupportedError: if the store could not hold a PUT to the conditions.
        """
        ...

    def incoming(self, key: str) -> Incoming:
        """The place of ``key``."""
        ...
