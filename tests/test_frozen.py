"""Frozen JSON containers."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from granite_storage.frozen import FrozenDict, FrozenList, freeze, thaw

PLAIN = {"a": [1, {"b": [2, None]}], "c": {"d": "e"}}

DICT_CHANGES: list[Callable[[Any], object]] = [
    lambda d: d.__setitem__("x", 1),
    lambda d: d.__delitem__("a"),
    lambda d: d.__ior__({"x": 1}),
    lambda d: d.clear(),
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.setdefault("x", 1),
    lambda d: d.update(x=1),
]
LIST_CHANGES: list[Callable[[Any], object]] = [
    lambda v: v.__setitem__(0, 1),
    lambda v: v.__delitem__(0),
    lambda v: v.__iadd__([1]),
    lambda v: v.__imul__(2),
    lambda v: v.append(1),
    lambda v: v.clear(),
    lambda v: v.extend([1]),
    lambda v: v.insert(0, 1),
    lambda v: v.pop(),
    lambda v: v.remove(1),
    lambda v: v.reverse(),
    lambda v: v.sort(),
]


@pytest.mark.parametrize("change", DICT_CHANGES)
def test_a_frozen_dict_refuses_every_change(change: Callable[[Any], object]) -> None:
    frozen = freeze(PLAIN)
    with pytest.raises(TypeError, match="frozen"):
        change(frozen)
    assert frozen == PLAIN


@pytest.mark.parametrize("change", LIST_CHANGES)
def test_a_frozen_list_refuses_every_change(change: Callable[[Any], object]) -> None:
    frozen = freeze(PLAIN)["a"]
    with pytest.raises(TypeError, match="frozen"):
        change(frozen)
    assert frozen == PLAIN["a"]


def test_freezing_copies_so_later_changes_do_not_show() -> None:
    plain = {"a": [1]}
    frozen = freeze(plain)
    plain["a"].append(2)
    assert frozen == {"a": [1]}


def test_freezing_reaches_every_level_and_takes_tuples_for_lists() -> None:
    frozen = freeze({"a": ({"b": [1]},)})
    assert isinstance(frozen, FrozenDict)
    assert isinstance(frozen["a"], FrozenList)
    assert isinstance(frozen["a"][0], FrozenDict)
    assert isinstance(frozen["a"][0]["b"], FrozenList)


def test_thawing_gives_plain_containers_at_every_level() -> None:
    thawed = thaw(freeze(PLAIN))
    assert thawed == PLAIN
    assert type(thawed) is dict
    assert type(thawed["a"]) is list
    assert type(thawed["a"][1]) is dict


def test_a_frozen_value_pickles_copies_and_dumps() -> None:
    frozen = freeze(PLAIN)
    unpickled = pickle.loads(pickle.dumps(frozen))
    assert unpickled == PLAIN
    assert type(unpickled["a"]) is FrozenList
    assert copy.deepcopy(frozen) == PLAIN
    assert type(copy.copy(frozen["a"])) is FrozenList
    assert json.loads(json.dumps(frozen)) == PLAIN
