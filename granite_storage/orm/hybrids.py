"""Flat names beside a file field, such as ``report_size``: on both sides, for whatever knows only flat attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.ext.hybrid import hybrid_property
    from sqlalchemy.orm import Mapper

    from granite_storage.orm.fields import FileField

__all__ = ["DEFAULT_HYBRIDS", "HYBRIDS_KEY", "add_hybrids"]

DEFAULT_HYBRIDS = ("size", "content_type", "filename")
"""The members that get a flat name unless ``hybrids=`` says otherwise."""

HYBRIDS_KEY = "granite_storage.hybrids"
"""In ``Column.info``: the members chosen for a file column."""


def add_hybrids(mapper: Mapper[Any], fields: tuple[FileField, ...]) -> None:
    """Give a mapped class ``<field>_<member>`` hybrids; a name that the class has already is left alone."""
    for one in fields:
        for member in one.column.info.get(HYBRIDS_KEY, DEFAULT_HYBRIDS):
            name = f"{one.key}_{member}"
            if not hasattr(mapper.class_, name):
                setattr(mapper.class_, name, _hybrid(name, one.key, member))


def _hybrid(name: str, key: str, member: str) -> hybrid_property[Any]:
    from sqlalchemy.ext.hybrid import hybrid_property  # a tenth of the ORM's import: not before a field is declared

    def value(self: Any) -> Any:
        file = getattr(self, key)
        return None if file is None else getattr(file, member)

    def expression(cls: Any) -> Any:
        return getattr(getattr(cls, key), member)

    value.__name__ = name
    value.__doc__ = f"The {member} of ``{key}``; None if it is empty."
    return hybrid_property(value, expr=expression)
