"""Comparing what was read with what a ref says: its size, and its checksum."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from granite_storage.exceptions import ChecksumMismatchError, NotSupportedError

if TYPE_CHECKING:
    from hashlib import _Hash

    from granite_storage.refs import StoredObjectRef

__all__ = ["check_digest", "check_size", "digest_of"]


def digest_of(ref: StoredObjectRef) -> _Hash:
    """A new hash of the algorithm that a ref's checksum is of.

    :raises NotSupportedError: if it is none that Python has.
    """
    algorithm, _, expected = ref.checksum.partition(":")
    digest = None
    with suppress(ValueError):
        digest = hashlib.new(algorithm, usedforsecurity=False)
    if digest is None or not digest.digest_size or not expected:
        raise NotSupportedError(
            f"the object at {ref.location!r} has the checksum {ref.checksum!r}, of no algorithm that hashlib has"
        )
    return digest


def check_size(ref: StoredObjectRef, size: int) -> None:
    """Whether ``size`` bytes are what the ref says; raises ChecksumMismatchError."""
    if size != ref.size:
        raise ChecksumMismatchError(f"the object at {ref.location!r} has {size} bytes, but its ref says {ref.size}")


def check_digest(ref: StoredObjectRef, digest: _Hash) -> None:
    """Whether a hash of the content is what the ref says; raises ChecksumMismatchError."""
    algorithm, _, expected = ref.checksum.partition(":")
    if digest.hexdigest() != expected.lower():
        raise ChecksumMismatchError(f"the object at {ref.location!r} has another {algorithm} than its ref says")
