"""What every listing has in common: folders, not string prefixes, and locations that can be named again."""

from __future__ import annotations

from granite_storage.exceptions import InvalidLocationError
from granite_storage.locations import MARKS, check_location

__all__ = ["folder_of", "is_listed"]


def folder_of(prefix: str | None) -> str:
    """The folder that a listing's ``prefix`` means: with a slash at its end, or empty for the whole backend.

    :raises InvalidLocationError: if it is no folder below the backend's root.

    >>> folder_of("docs"), folder_of("docs/2024/"), folder_of(None)
    ('docs/', 'docs/2024/', '')
    """
    folder = (prefix or "").strip("/")
    return check_location(folder) + "/" if folder else ""


def is_listed(name: str, folder: str) -> bool:
    """Whether something found in a store is an object for a listing of ``folder`` (empty, or with a slash at its end).

    Other programs' names that no ref could hold are not, nor are the marks of the folders below.

    >>> is_listed("docs/a.txt", "docs/"), is_listed("docs/", ""), is_listed(".incoming/8f3a", "")
    (True, False, False)
    >>> mark = "docs/.granite-storage/owner"
    >>> is_listed(mark, "docs/"), is_listed(mark, "docs/.granite-storage/")
    (False, True)
    """
    try:
        check_location(name)
    except InvalidLocationError:
        return False
    return MARKS not in name or f"/{MARKS}/" not in f"/{name[len(folder) :]}/"
