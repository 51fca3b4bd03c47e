"""Attaching a manager to MetaDatas: the moment at which every configuration mistake is reported, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapper

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.fields import file_fields
from granite_storage.orm.home import MANAGER_KEY
from granite_storage.orm.options import options_of
from granite_storage.orm.references import ref_columns
from granite_storage.resolve import place_of
from granite_storage.storing import encryption_problem

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager
    from granite_storage.orm.type import StoredObjectRefType
    from granite_storage.policies import StoragePolicy

__all__ = ["attach"]


def attach(manager: StorageManager, models: Iterable[Any], engine: Any) -> None:
    """Serve the file fields of declarative bases, mapped classes or MetaDatas.

    :raises ConfigurationError: listing every mistake; nothing is attached then.
    """
    problems = list(_manager_problems(manager))
    attached: dict[MetaData, None] = {}
    names: dict[Any, str] = {}
    given = list(models)
    if not given:
        problems.append("attach() was given no declarative base and no MetaData")
    for model in given:
        metadata = model if isinstance(model, MetaData) else getattr(model, "metadata", None)
        if not isinstance(metadata, MetaData):
            problems.append(f"attach() takes declarative bases, mapped classes and MetaData, not {model!r}")
            continue
        attached[metadata] = None
        registry = getattr(model, "registry", None)
        for mapper in getattr(registry, "mappers", ()):
            names |= _names(mapper)
    for metadata in attached:
        problems += _field_problems(manager, metadata, names)
    if problems:
        raise ConfigurationError("the storage manager does not fit the models:", problems)
    for metadata in attached:
        metadata.info[MANAGER_KEY] = manager
        manager.attached[metadata] = getattr(engine, "sync_engine", engine)


def _manager_problems(manager: StorageManager) -> Iterator[str]:
    for name, policy in manager.policies.items():
        if name != policy.storage_key:
            yield f"policy {policy.storage_key!r} is listed under the name {name!r}; refs could not be told apart"
        backend = manager.backends.get(policy.backend_key)
        if backend is None:
            known = ", ".join(map(repr, manager.backends)) or "none"
            yield f"policy {name!r} names the unknown backend {policy.backend_key!r}; the manager has {known}"
        elif problem := encryption_problem(backend, policy):
            yield problem
    everywhere = [place for policy in manager.policies.values() for place in policy.everywhere()]
    for one, other in combinations(everywhere, 2):
        shorter, longer = sorted((one, other), key=lambda policy: len(_folder(manager, policy)))
        if _folder(manager, longer).startswith(_folder(manager, shorter)):
            yield (
                f"policies {shorter.storage_key!r} and {longer.storage_key!r} nest their prefixes "
                f"{shorter.prefix!r} and {longer.prefix!r} in backend {longer.backend_key!r}; "
                "give each a key_prefix of its own"
            )


def _folder(manager: StorageManager, policy: StoragePolicy) -> str:
    backend = manager.backends.get(policy.backend_key)
    return f"{policy.backend_key if backend is None else place_of(backend)}/{policy.prefix}/"


def _field_problems(manager: StorageManager, metadata: MetaData, names: dict[Any, str]) -> Iterator[str]:
    other = metadata.info.get(MANAGER_KEY)
    if other is not None and other is not manager:
        yield "a MetaData has another manager attached already; one manager serves all fields of a MetaData"
    for column in ref_columns(metadata):
        home = cast("StoredObjectRefType", column.type).home
        if home.policy is not None and home.policy not in manager.policies:
            known = ", ".join(map(repr, manager.policies)) or "none"
            field = names.get(column, str(home))
            yield f"file field {field} names the unknown policy {home.policy!r}; the manager has {known}"
        elif home.policy is not None and manager.policies[home.policy].retain and options_of(metadata).outbox is None:
            yield (
                f"policy {home.policy!r} of file field {names.get(column, str(home))} retains freed objects, which "
                "stand in the outbox meanwhile; its MetaData has none: metadata_options(outbox=None)"
            )


def _names(mapper: Mapper[Any]) -> dict[Any, str]:
    inherited = {one.column for one in file_fields(mapper.inherits)} if mapper.inherits else ()
    return {
        one.column: f"{mapper.class_.__name__}.{one.key}" for one in file_fields(mapper) if one.column not in inherited
    }
