"""What every listing has in common: folders, not string prefixes, and locations that can be named again."""

from __future__ import annotations

from granite_storage.exceptions import InvalidLocationError
from granite_storage.locations import check_location

__all__ = ["folder_of", "is_location"]


def folder_of(prefix: str | None) -> str:
    """The folder that a listing's ``prefix`` means: with a slash at its end, or empty for the whole backend.

    :raises InvalidLocationError: if it is no folder below the backend's root.

    >>> folder_of("docs"), folder_of("docs/2024/"), folder_of(None)
    ('docs/', 'docs/2024/', '')
    """
    folder = (prefix or "").strip("/")
    return check_location(folder) + "/" if folder else ""


def is_location(name: str) -> bool:
    """Whether something found in a store is an object of ours: other programs' names that no ref could hold are not.

    >>> is_location("docs/a.txt"), is_location("docs/"), is_location(".incoming/8f3a")
    (True, False, False)
    """
    try:
        check_location(name)
    except InvalidLocationError:
        return False
    return True
