"""The brake: a listing that finds too much to delete stops, and asks for an explicit word.

Somebody may have pointed the sweep at an empty database, or at a store whose rows are elsewhere. So deletion by
listing goes on by itself only while at most a tenth of what it looked at is left over, once that is more than 1 000
objects; and never if no row names any object at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from granite_storage.maintenance.places import columns_there

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granite_storage.orm.sites import Site

__all__ = ["Brake", "any_reference"]

_SHARE = 10  # per cent
_OBJECTS = 1000


@dataclass(slots=True)
class Brake:
    """Counts what a listing looks at, and what of it is left over."""

    force: bool
    what: str
    """What is looked at, such as ``"recent uploads"``."""
    word: str
    """The explicit word, such as ``"sweep(force=True)"``."""
    scanned: int = 0
    orphans: int = 0

    @property
    def pulled(self) -> bool:
        """Whether it is too much to go on without an explicit word."""
        return not self.force and self.scanned > _OBJECTS and self.orphans * 100 > self.scanned * _SHARE

    @property
    def reason(self) -> str:
        """What to say of it."""
        return (
            f"the brake: {self.orphans} of {self.scanned} {self.what} are named by nothing, more than {_SHARE} %; "
            "the rest of them stays. Make sure that the right databases are asked, and all of them; then "
            f"say so: {self.word}"
        )

    @property
    def no_reference(self) -> str:
        """What to say where nothing names any object at all."""
        return (
            f"the brake: nothing names any object in these databases, and {self.orphans} {self.what} would be deleted; "
            f"make sure that they are the right databases; then say so: {self.word}"
        )


def any_reference(sites: Iterable[Site]) -> bool:
    """Whether any row at these sites names any object."""
    for site in sites:
        columns = columns_there(site)
        with site.desk() as desk:
            for column in columns:
                if desk.connection.scalar(select(1).select_from(column.table).where(column.is_not(None)).limit(1)):
                    return True
    return False
