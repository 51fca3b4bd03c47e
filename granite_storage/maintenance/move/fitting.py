"""Whether the policy that a file is moved to takes it: by what the ref records, and by the policy's validators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granite_storage.exceptions import ValidationError
from granite_storage.intake.media_types import OCTET_STREAM, matches
from granite_storage.intake.sniff import HEAD_SIZE
from granite_storage.intake.stream import in_bytes
from granite_storage.intake.validators import Candidate, validate

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy
    from granite_storage.refs import StoredObjectRef

__all__ = ["misfit", "refused_by_validators"]


def misfit(ref: StoredObjectRef, policy: StoragePolicy) -> str | None:
    """Which limit of a policy a file does not keep; None if it fits."""
    problem, kind = None, ref.content_type or OCTET_STREAM
    if policy.max_size is not None and ref.size > policy.max_size:
        problem = f"it has {in_bytes(ref.size)}, more than {in_bytes(policy.max_size)}, the max_size"
    elif policy.min_size is not None and ref.size < policy.min_size:
        problem = f"it has {in_bytes(ref.size)}, fewer than {in_bytes(policy.min_size)}, the min_size"
    elif policy.content_types is not None and not matches(kind, policy.content_types):
        problem = f"it is {kind}, none of {', '.join(policy.content_types)}, the content_types"
    return problem and f"{problem} of policy {policy.storage_key!r}; {_REMEDY}"


def refused_by_validators(manager: StorageManager, ref: StoredObjectRef, policy: StoragePolicy) -> str | None:
    """What a policy's validators say against a file; None if nothing, or if there are none.

    :raises StorageError: if the file cannot be read.
    """
    if not policy.validators:
        return None
    with manager.open(ref) as stream:
        head = _head(stream)
    kind = ref.content_type or OCTET_STREAM
    candidate = Candidate(ref.original_filename, kind, ref.size, head, policy, lambda: manager.open_seekable(ref))
    try:
        validate(candidate)
    except ValidationError as error:
        return f"{error}; {_REMEDY}"
    return None


def _head(stream: Any) -> bytes:
    head = b""
    while len(head) < HEAD_SIZE and (part := stream.read(HEAD_SIZE - len(head))):
        head += part
    return head


_REMEDY = "change the policy, or move it nevertheless: move(..., limits=False)"
