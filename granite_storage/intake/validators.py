"""Own checks of a policy: a validator is a callable that gets a candidate and raises to refuse it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from granite_storage.exceptions import StorageError, ValidationError
from granite_storage.intake.stream import called
from granite_storage.policies import StoragePolicy

__all__ = ["Candidate", "Validator", "validate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a validator is shown: an upload whose type and known limits were checked, before anything is stored.

    :param filename: the cleaned filename, or None.
    :param content_type: the type that the bytes show.
    :param size: bytes, or None if the source does not tell before it is read.
    :param head: the first bytes, up to 8 KiB.
    :param policy: the policy it is checked for.
    """

    filename: str | None = field(repr=False)
    content_type: str
    size: int | None
    head: bytes = field(repr=False)
    policy: StoragePolicy
    _open: Callable[[], AbstractContextManager[BinaryIO]] = field(repr=False, compare=False)

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The whole content, as often as needed; a source that can be read only once is buffered first.

        :raises ContentTooLargeError: if buffering passes the policy's ``max_size``.
        """
        return self._open()


class Validator(Protocol):
    """A check of a policy, such as ``StoragePolicy("covers", "local", validators=(no_huge_images,))``.

    >>> def no_drafts(candidate: Candidate) -> None:
    ...     if candidate.head.startswith(b"DRAFT"):
    ...         raise ValidationError("a draft is not accepted; remove its first line")
    """

    def __call__(self, candidate: Candidate, /) -> None:
        """Return if the candidate is acceptable.

        :raises ValidationError: if it is not; any other exception is taken for one, with the cause chained.
        """


def validate(candidate: Candidate) -> None:
    """Call every validator of the candidate's policy, in their order.

    :raises ValidationError: if one refuses.
    """
    for validator in candidate.policy.validators:
        try:
            validator(candidate)
        except StorageError:
            raise
        except Exception as error:
            name = getattr(validator, "__qualname__", type(validator).__qualname__)
            raise ValidationError(
                f"{called(candidate.filename)} was refused by validator {name} of policy "
                f"{candidate.policy.storage_key!r}: {str(error) or type(error).__name__}"
            ) from error
