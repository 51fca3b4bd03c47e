"""How an application has configured its storage, as plain values; nothing secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from granite_storage.backends.base import abilities_of
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import ref_columns
from granite_storage.orm.registry import registry_of

if TYPE_CHECKING:
    from sqlalchemy import URL

    from granite_storage.manager import StorageManager
    from granite_storage.orm.type import StoredObjectRefType
    from granite_storage.policies import StoragePolicy

__all__ = ["settings_of", "told_settings"]

_MASK = "***"
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_SECRET_INSIDE = re.compile(r"(pass|pwd|secret|token|key)\w*\s*=", re.IGNORECASE)  # as in odbc_connect
_SHOWN = ("backend_key", "max_size", "min_size", "content_types", "checksum", "retain", "former_prefixes")


def settings_of(manager: StorageManager) -> dict[str, Any]:
    """Backends, policies and file fields of a manager, ready for JSON."""
    return {
        "owner": manager.ownership.owner,
        "grace": manager.grace.total_seconds(),
        "backends": {
            name: {"backend": repr(backend), "abilities": sorted(one.name for one in abilities_of(backend))}
            for name, backend in manager.backends.items()
        },
        "policies": {name: _policy(policy) for name, policy in manager.policies.items()},
        "fields": [
            {
                "column": f"{column.table.fullname}.{column.name}",
                "policy": cast("StoredObjectRefType", column.type).policy,
                "database": None if engine is None else _url(engine.url),
                "outbox": _name(outbox_of(metadata)),
                "registry": _name(registry_of(metadata)),
            }
            for metadata, engine in manager.attached.items()
            for column in ref_columns(metadata)
        ],
    }


def told_settings(settings: dict[str, Any]) -> Iterator[tuple[str, Sequence[str], list[list[Any]]]]:
    """The same as tables: a title, the heads, and the rows."""
    yield (
        "Backends",
        ("name", "backend", "abilities"),
        [[name, one["backend"], ", ".join(one["abilities"]).lower()] for name, one in settings["backends"].items()],
    )
    yield (
        "Policies",
        ("name", "backend", "prefix", "other options"),
        [
            [
                name,
                one["backend_key"],
                one["prefix"],
                ", ".join(f"{key}={value}" for key, value in one.items() if key not in ("backend_key", "prefix")),
            ]
            for name, one in settings["policies"].items()
        ],
    )
    yield (
        "File fields",
        ("column", "policy", "database", "outbox"),
        [[one["column"], one["policy"], one["database"] or "-", one["outbox"] or "-"] for one in settings["fields"]],
    )
    yield "Manager", ("owner", "grace (seconds)"), [[settings["owner"] or "-", f"{settings['grace']:.0f}"]]


def _url(url: URL) -> str:
    """A database's URL, with what may be secret masked: in its query, too, and where a password was not encoded."""

    def shown(name: str, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        inside = value if isinstance(value, str) else "&".join(value)
        return _MASK if _SECRET.search(name) or _SECRET_INSIDE.search(inside) or "@" in inside else value

    parts: dict[str, Any] = {"query": {name: shown(name, value) for name, value in url.query.items()}}
    if "@" in f"{url.host}{url.database}" and url.host:
        parts |= {"host": _MASK, "database": _MASK}
    return url.set(**parts).render_as_string(hide_password=True).replace("%2A%2A%2A", _MASK)


def _policy(policy: StoragePolicy) -> dict[str, Any]:
    told: dict[str, Any] = {"backend_key": policy.backend_key, "prefix": policy.prefix}
    defaults = {field.name: field.default for field in fields(policy)}
    for name in _SHOWN[1:]:
        value = getattr(policy, name)
        if value and value != defaults[name]:
            told[name] = value.total_seconds() if name == "retain" else value
    return told


def _name(table: Any) -> str | None:
    return None if table is None else table.fullname
