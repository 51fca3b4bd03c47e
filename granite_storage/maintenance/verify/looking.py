"""Looking at single objects: whether they are there, how large they are, and whether their content is what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from granite_storage.backends.base import Ability, has_ability
from granite_storage.batching import batched
from granite_storage.deletion import told
from granite_storage.exceptions import (
    ChecksumMismatchError,
    InvalidLocationError,
    InvalidRefError,
    NotSupportedError,
    ObjectNotFoundError,
)
from granite_storage.maintenance.parallel import check_stopped
from granite_storage.maintenance.verify.report import FindingKind
from granite_storage.orm.greenlets import run_side_by_side
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.base import StatBackend
    from granite_storage.manager import StorageManager

__all__ = ["Problem", "Seen", "look", "read_through"]

_AT_ONCE = 100

Problem = tuple[FindingKind, str]
"""What is wrong with an object, and how that shows."""

Seen = int | None | Problem
"""An object's size; None if it is there and nobody tells its size; or what is wrong."""


def look(manager: StorageManager, backend_key: str, locations: Iterable[str]) -> dict[str, Seen]:
    """What the store says now of each of these locations: side by side, in the manager's threads."""
    backend: Any = manager.backends[backend_key]
    stat = cast("StatBackend", backend).stat if has_ability(backend, Ability.STAT) else None
    seen: dict[str, Seen] = {}

    def look_at(location: str) -> None:
        try:
            ref = StoredObjectRef("", backend_key, location, 0, "")
            if stat is not None:
                seen[location] = stat(ref).size
            else:
                seen[location] = None if backend.exists(ref) else (FindingKind.MISSING, "")
        except ObjectNotFoundError:
            seen[location] = FindingKind.MISSING, ""
        except (InvalidLocationError, InvalidRefError) as error:
            seen[location] = FindingKind.MISSING, f"nothing can be there: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the object
            seen[location] = FindingKind.UNCHECKED, told(error)

    _run(manager, [partial(look_at, location) for location in locations])
    return seen


def read_through(manager: StorageManager, refs: Sequence[StoredObjectRef]) -> tuple[list[Problem | None], int]:
    """Read objects side by side and compare each with its ref; what is wrong with each, and how many bytes it took."""
    problems: list[Problem | None] = [None] * len(refs)

    def read(place: int) -> None:
        try:
            manager.file(refs[place]).verify()
        except ObjectNotFoundError:
            problems[place] = FindingKind.MISSING, ""
        except ChecksumMismatchError as error:
            problems[place] = FindingKind.CHECKSUM, str(error)
        except NotSupportedError as error:
            problems[place] = FindingKind.NO_CHECKSUM, str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the object
            problems[place] = FindingKind.UNCHECKED, told(error)

    _run(manager, [partial(read, place) for place in range(len(refs))])
    unread = (FindingKind.MISSING, FindingKind.NO_CHECKSUM, FindingKind.UNCHECKED)
    read_bytes = sum(
        ref.size for ref, problem in zip(refs, problems, strict=True) if problem is None or problem[0] not in unread
    )
    return problems, read_bytes


def _run(manager: StorageManager, calls: Sequence[Callable[[], None]]) -> None:
    for batch in batched([partial(_unless_stopped, call) for call in calls], _AT_ONCE):
        run_side_by_side(manager.pool, batch)


def _unless_stopped(call: Callable[[], None]) -> None:
    check_stopped()
    call()
