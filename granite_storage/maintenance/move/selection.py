"""Which files a move takes: told by two members of their refs, so that a second run finds only what is left."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_

from granite_storage.exceptions import ConfigurationError, StorageError
from granite_storage.orm.operators import FileComparator
from granite_storage.resolve import resolve_backend_key

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement

    from granite_storage.manager import StorageManager
    from granite_storage.policies import StoragePolicy
    from granite_storage.refs import StoredObjectRef

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Refs of a policy, at one backend or at all but the one where they are to be.

    :param storage_key: the policy that they name.
    :param names: what they call the backend; with ``but`` those that are left out.
    """

    storage_key: str
    names: frozenset[str]
    but: bool

    @classmethod
    def of(
        cls, manager: StorageManager, source: StoragePolicy, target: StoragePolicy, from_backend: str | None
    ) -> Selection:
        """The refs that are to be moved from a policy to a policy.

        :param from_backend: the manager's name of a backend; by default whatever is not where it is to be.
        :raises ConfigurationError: if they are there already.
        :raises StorageError: if there is no such backend.
        """
        stays = source.storage_key == target.storage_key
        if from_backend is None:
            names = _names_of(manager, source, target.backend_key) if stays else frozenset[str]()
            return cls(source.storage_key, names, but=True)
        if from_backend not in manager.backends:
            known = ", ".join(map(repr, manager.backends)) or "none"
            raise StorageError(f"Unknown backend: {from_backend!r}; the manager has {known}")
        if stays and from_backend == target.backend_key:
            raise ConfigurationError(
                f"files of policy {source.storage_key!r} at backend {from_backend!r} are where the policy has them; "
                "give the policy another backend_key first, or say to= which policy they are to go"
            )
        return cls(source.storage_key, _names_of(manager, source, from_backend), but=False)

    def condition(self, column: Column[Any]) -> ColumnElement[bool]:
        """What tells such refs in SQL."""
        members = FileComparator(column)
        named = members.storage_key == self.storage_key
        if self.but and not self.names:
            return named
        names = sorted(self.names)
        return and_(named, members.backend.not_in(names) if self.but else members.backend.in_(names))

    def has(self, ref: StoredObjectRef) -> bool:
        """Whether a ref is one of them, told exactly, whatever the collation of the database."""
        return ref.storage_key == self.storage_key and (ref.backend in self.names) != self.but


def _names_of(manager: StorageManager, policy: StoragePolicy, backend_key: str) -> frozenset[str]:
    """All that refs of a policy may call a backend: 0.1.0 wrote the class's name."""
    found = set[str]()
    for name in {*manager.backends, *(backend.backend_name for backend in manager.backends.values())}:
        with suppress(StorageError):
            if resolve_backend_key(name, policy.storage_key, manager.backends, manager.policies) == backend_key:
                found.add(name)
    return frozenset(found)
