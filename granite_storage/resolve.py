"""From a ref to the backend that holds its object.

A ref records the name under which the manager knows the backend. Refs of granite-storage 0.1.0 recorded the backend
class's ``backend_name`` instead, so a ref is resolved in this order: the manager's name; the backend of the
ref's policy, if its ``backend_name`` fits; the only backend whose ``backend_name`` fits.
"""

from __future__ import annotations

from collections.abc import Mapping

from granite_storage.backends.base import StorageBackend
from granite_storage.exceptions import StorageError
from granite_storage.policies import StoragePolicy

__all__ = ["place_of", "resolve_backend_key", "stores_of"]


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


def stores_of(backends: Mapping[str, StorageBackend]) -> dict[str, str]:
    """For each name of a backend the first name that leads to the same store.

    A store has two names where a backend was renamed, and its former name is kept for the refs that have it.

    >>> from granite_storage import MemoryStorageBackend
    >>> disk = MemoryStorageBackend()
    >>> stores_of({"local": disk, "disk": disk, "other": MemoryStorageBackend()})
    {'local': 'local', 'disk': 'local', 'other': 'other'}
    """
    first: dict[str, str] = {}
    return {name: first.setdefault(place_of(backend), name) for name, backend in backends.items()}


def place_of(backend: StorageBackend) -> str:
    """Where a backend's objects are, in the words of the store itself, so that two backends may be on one."""
    place = getattr(backend, "place", None)
    return place.rstrip("/") if isinstance(place, str) else f"backend number {id(backend)}"
