"""Whose objects are these? Marks at a prefix say which owner and which databases put objects there.

::

    docs/.granite-storage/owner              {"owner": "shop-prod"}       made by a manager that was given owner=
    docs/.granite-storage/databases/<id>     {"database": "<id>"}         made by each database that names objects here

A manager with another owner may read, but its uploads and deletes are refused. A sweep refuses a prefix that bears
the mark of a database it does not ask. No mark is inside a day's folder, so that no sweep takes one for an upload.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from granite_storage.backends.base import Ability, has_ability
from granite_storage.exceptions import ConfigurationError, ObjectExistsError, OwnershipError
from granite_storage.locations import MARKS
from granite_storage.object_settings import ObjectSettings
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from granite_storage.backends.base import StorageBackend
    from granite_storage.policies import StoragePolicy

__all__ = ["Ownership", "is_mark"]

_OWNER = "owner"


def is_mark(location: str) -> bool:
    """Whether a location is a mark's, and no object of the application.

    >>> is_mark("docs/.granite-storage/owner"), is_mark("docs/2026/01/31/x")
    (True, False)
    """
    return f"/{MARKS}/" in location


class Ownership:
    """What a manager knows of the marks in its backends; each is looked at once.

    :param owner: the owner that this manager acts for, from configuration; None for none.
    """

    def __init__(self, owner: str | None = None) -> None:
        if owner is not None and (not isinstance(owner, str) or not owner):  # type: ignore[redundant-expr]
            raise ConfigurationError(f"owner is a name, such as 'shop-prod', not {owner!r}")
        self.owner = owner
        # The backend is the value, so that its id is not another's while this remembers it.
        self._seen: dict[tuple[int, str, Hashable], StorageBackend] = {}

    def knows(self, backend: StorageBackend, prefix: str, what: Hashable) -> bool:
        """Whether something was noted of a prefix."""
        return (id(backend), prefix, what) in self._seen

    def note(self, backend: StorageBackend, prefix: str, what: Hashable) -> None:
        """Remember something of a prefix, so that nobody need ask again in this process."""
        self._seen[id(backend), prefix, what] = backend

    def check(self, backend: StorageBackend, policy: StoragePolicy, *, mark: bool = True) -> None:
        """Refuse to store or delete below another owner's prefix; mark a prefix that has no owner yet.

        :param mark: if not, a prefix that has no owner is taken for this manager's, and left as it is.
        :raises OwnershipError: naming both owners and the remedy.
        """
        if self.knows(backend, policy.prefix, _OWNER):
            return
        found = _read(backend, _owner_mark(policy.prefix), "owner")
        if found is None and self.owner is not None:
            if not mark:
                return
            with suppress(ObjectExistsError):  # another process was first; what it wrote counts
                _write(backend, policy, _owner_mark(policy.prefix), {"owner": self.owner})
            found = _read(backend, _owner_mark(policy.prefix), "owner")
        if found != self.owner:
            raise OwnershipError(
                f"prefix {policy.prefix!r} of policy {policy.storage_key!r} belongs to "
                f"{'the owner ' + repr(found) if found else 'no owner'}, and this manager acts for "
                f"{'the owner ' + repr(self.owner) if self.owner else 'none'}: it may read, and neither store nor "
                "delete. Give its policies a key_prefix of their own, or StorageManager(owner=...) the right name; "
                "manager.take_ownership() changes the mark"
            )
        self.note(backend, policy.prefix, _OWNER)

    def forget(self, backends: Iterable[StorageBackend]) -> None:
        """Let go of backends that are used no more."""
        gone = {id(backend) for backend in backends}
        self._seen = {seen: backend for seen, backend in self._seen.items() if seen[0] not in gone}

    def mark(self, backend: StorageBackend, policy: StoragePolicy, database: str) -> None:
        """Note at a policy's prefix that a database names objects there."""
        location = _database_mark(policy.prefix, database)
        if not backend.exists(_ref(backend, location)):
            with suppress(ObjectExistsError):
                _write(backend, policy, location, {"database": database})

    @staticmethod
    def databases(backend: StorageBackend, prefix: str) -> set[str]:
        """The ids of all databases whose marks are at a prefix: one listing."""
        folder = _database_mark(prefix, "")
        return {location.removeprefix(folder) for location in backend.iter_locations(folder.rstrip("/"))}

    def take(self, backend: StorageBackend, policy: StoragePolicy, databases: set[str]) -> None:
        """Put this manager's owner and these databases in the place of whoever is marked at a policy's prefix."""
        prefix = policy.prefix
        self._seen = {seen: one for seen, one in self._seen.items() if seen[:2] != (id(backend), prefix)}
        for other in self.databases(backend, prefix) - databases:
            backend.delete(_ref(backend, _database_mark(prefix, other)))
        try:
            found = _read(backend, _owner_mark(prefix), "owner")
        except OwnershipError:  # nobody can read it, so it goes
            found = ""
        if found != self.owner:
            backend.delete(_ref(backend, _owner_mark(prefix)))
            if self.owner is not None:
                _write(backend, policy, _owner_mark(prefix), {"owner": self.owner})
        for database in sorted(databases):
            self.mark(backend, policy, database)


def _owner_mark(prefix: str) -> str:
    return f"{prefix}/{MARKS}/owner"


def _database_mark(prefix: str, database: str) -> str:
    return f"{prefix}/{MARKS}/databases/{database}"


def _ref(backend: StorageBackend, location: str) -> StoredObjectRef:
    return StoredObjectRef("", backend.backend_name, location, 0, "")


def _read(backend: StorageBackend, location: str, member: str) -> str | None:
    ref = _ref(backend, location)
    if not backend.exists(ref):
        return None
    try:
        value = json.loads(backend.get(ref))[member]
        if not isinstance(value, str) or not value:
            raise TypeError(f"its {member} is no name")
        return value
    except (ValueError, TypeError, LookupError) as error:
        raise OwnershipError(
            f"the mark {location!r} cannot be read ({error}); manager.take_ownership() writes it anew"
        ) from error


def _write(backend: StorageBackend, policy: StoragePolicy, location: str, content: dict[str, str]) -> None:
    # A bucket may refuse what is not encrypted. The other settings are for files: a mark must be readable at once.
    encryption = ObjectSettings(encryption=policy.encryption, kms_key_id=policy.kms_key_id)
    settings: dict[str, Any] = {}
    if encryption and has_ability(backend, Ability.OBJECT_SETTINGS):
        settings["settings"] = encryption
    text = json.dumps(content).encode() + b"\n"
    backend.put_bytes(key=location, content=text, content_type="application/json", **settings)
