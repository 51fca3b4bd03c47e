"""JSON containers that cannot be changed: what refs keep their ``extra`` in, and policies their tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["FrozenDict", "FrozenList", "freeze", "thaw"]


def _refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError("it is frozen: make a changed copy, of a ref with ref.replace(...)")


class FrozenDict(dict[str, Any]):
    """A dict that refuses every change; still a ``dict`` to ``json`` and ``isinstance``."""

    __slots__ = ()
    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (thaw(self),)

    def __deepcopy__(self, memo: Any) -> FrozenDict:
        return self

    def __copy__(self) -> FrozenDict:
        return self


class FrozenList(list[Any]):
    """A list that refuses every change; still a ``list`` to ``json`` and ``isinstance``."""

    __slots__ = ()
    __setitem__ = __delitem__ = append = clear = extend = insert = pop = remove = reverse = sort = _refuse
    __iadd__ = __imul__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (thaw(self),)

    def __deepcopy__(self, memo: Any) -> FrozenList:
        return self

    def __copy__(self) -> FrozenList:
        return self


def freeze(value: Any) -> Any:
    """Copy JSON data into frozen containers.

    >>> freeze({"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    True
    """
    if isinstance(value, Mapping):
        return FrozenDict((name, freeze(member)) for name, member in value.items())
    if isinstance(value, (list, tuple)):
        return FrozenList(freeze(member) for member in value)
    return value


def thaw(value: Any) -> Any:
    """Copy frozen containers into plain, changeable ones."""
    if isinstance(value, dict):
        return {name: thaw(member) for name, member in value.items()}
    if isinstance(value, list):
        return [thaw(member) for member in value]
    return value
