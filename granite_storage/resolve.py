"""From a ref to the backend that holds its object.

A ref records the name under which the manager knows the backend. Refs of granite-storage 0.1.0 recorded the backend
class's ``backend_name`` instead, so a ref is resolved in this order: the manager's name; the backend of the
ref's policy, if its ``backend_name`` fits; the only backend whose ``backend_name`` fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import permutations

from granite_storage.backends.base import StorageBackend
from granite_storage.exceptions import StorageError
from granite_storage.policies import StoragePolicy

__all__ = ["Stores", "place_of", "resolve_backend_key"]


def resolve_backend_key(
    backend: str,
    storage_key: str,
    backends: Mapping[str, StorageBackend],
    policies: Mapping[str, StoragePolicy],
) -> str:
    """The manager's name for the backend that a ref's ``backend`` and ``storage_key`` mean.

    :raises StorageError: naming the candidates, if there is no backend or more than one that it could be.
    """
    if backend in backends:
        return backend
    policy = policies.get(storage_key)
    if policy is not None:
        held = backends.get(policy.backend_key)
        if held is not None and held.backend_name == backend:
            return policy.backend_key
    fitting = [name for name, candidate in backends.items() if candidate.backend_name == backend]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StorageError(
            f"Unknown backend: {backend!r} could be any of {', '.join(map(repr, fitting))}; "
            f"give the policy {storage_key!r} the right backend_key, or name one backend {backend!r}"
        )
    raise StorageError(f"Unknown backend: {backend!r}; the manager has {', '.join(map(repr, backends)) or 'none'}")


class Stores:
    """The stores that a manager's backends are on: which names lead to one, and which lie inside of others.

    A store has two names where a backend was renamed, and its former name is kept for the refs that have it. It lies
    inside of another where a folder of that one was made a backend of its own.

    >>> from granite_storage import LocalStorageBackend
    >>> disk, inner = LocalStorageBackend("/srv/files"), LocalStorageBackend("/srv/files/shop")
    >>> stores = Stores({"local": disk, "disk": disk, "shop": inner})
    >>> stores.name("disk")
    'local'
    >>> stores.identities("shop", "docs/1")
    [('shop', 'docs/1'), ('local', 'shop/docs/1')]
    >>> stores.identities("local", "shop/docs/1")
    [('local', 'shop/docs/1'), ('shop', 'docs/1')]
    """

    def __init__(self, backends: Mapping[str, StorageBackend]) -> None:
        first: dict[str, str] = {}
        self._names = {name: first.setdefault(place_of(backend), name) for name, backend in backends.items()}
        self._nested: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for (outer, outer_name), (inner, inner_name) in permutations(first.items(), 2):
            if inner.startswith(f"{outer}/"):
                folder = inner[len(outer) + 1 :] + "/"
                self._nested[inner_name].append((outer_name, "", folder))
                self._nested[outer_name].append((inner_name, folder, ""))

    def name(self, name: str) -> str:
        """The first of the names that lead to the same store as this one; an unknown one itself."""
        return self._names.get(name, name)

    def identities(self, name: str, location: str) -> list[tuple[str, str]]:
        """All pairs of a store's name and a location that mean the object that this pair means, itself first."""
        several = [(name, location)]
        for other, without, within in self._nested.get(name, ()):
            if location.startswith(without):
                several.append((other, within + location[len(without) :]))
        return several


def place_of(backend: StorageBackend) -> str:
    """Where a backend's objects are, in the words of the store itself, so that two backends may be on one."""
    place = getattr(backend, "place", None)
    return place.rstrip("/") if isinstance(place, str) else f"backend number {id(backend)}"
