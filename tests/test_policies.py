"""Storage policies and the mistakes that they refuse."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from granite_storage.exceptions import ConfigurationError
from granite_storage.policies import StoragePolicy


def accept_all(candidate: Any) -> None:
    """A validator."""


def test_the_arguments_of_0_1_0_keep_their_positions() -> None:
    policy = StoragePolicy("documents", "local", 10, "docs")
    assert (policy.storage_key, policy.backend_key, policy.max_size, policy.key_prefix) == (
        "documents",
        "local",
        10,
        "docs",
    )


def test_the_options_that_came_later_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        StoragePolicy("documents", "local", 10, "docs", 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key_prefix", "prefix"),
    [(None, "documents"), ("", "documents"), ("docs", "docs"), ("/a/b/", "a/b"), ("/", "documents")],
)
def test_the_prefix_is_the_key_prefix_or_else_the_storage_key(key_prefix: str | None, prefix: str) -> None:
    assert StoragePolicy("documents", "local", key_prefix=key_prefix).prefix == prefix


def test_a_policy_is_frozen_hashable_and_compares_by_value() -> None:
    policy = StoragePolicy("documents", "local", content_types=["image/*"], validators=[accept_all])
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_size = 1  # type: ignore[misc]
    assert policy == StoragePolicy("documents", "local", content_types=("image/*",), validators=(accept_all,))
    assert len({policy, copy.copy(policy), pickle.loads(pickle.dumps(policy))}) == 1


def test_patterns_and_validators_may_come_from_an_iterator() -> None:
    policy = StoragePolicy(
        "d", "local", content_types=(kind for kind in ("IMAGE/*", "text/csv")), validators=iter([accept_all])
    )
    assert policy.content_types == ("image/*", "text/csv")
    assert policy.validators == (accept_all,)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"storage_key": ""}, "storage_key"),
        ({"storage_key": None}, "storage_key"),
        ({"backend_key": ""}, "backend_key"),
        ({"backend_key": object()}, "backend_key"),
        ({"key_prefix": 5}, "key_prefix"),
        ({"key_prefix": "../up"}, "prefix"),
        ({"storage_key": "a//b"}, "prefix"),
        ({"max_size": -1}, "max_size"),
        ({"max_size": "10 MB"}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"max_size": 1.5}, "max_size"),
        ({"min_size": -1}, "min_size"),
        ({"min_size": 2, "max_size": 1}, "above max_size"),
        ({"content_types": "image/*"}, "content_types"),
        ({"content_types": 5}, "content_types"),
        ({"content_types": ("image",)}, "content_types"),
        ({"content_types": ("image/*; q=1",)}, "content_types"),
        ({"content_types": ("*/png",)}, "content_types"),
        ({"content_types": (None,)}, "content_types"),
        ({"validators": ("no",)}, "validators"),
        ({"validators": accept_all}, "validators"),
        ({"checksum": "sha257"}, "checksum"),
        ({"checksum": "shake_128"}, "checksum"),
        ({"checksum": None}, "checksum"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoragePolicy(**{"storage_key": "documents", "backend_key": "local", **options})
    assert len(caught.value.problems) == 1
    assert named in caught.value.problems[0]


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoragePolicy("documents", "local", -1, "..", content_types=("x", "y"), checksum="md6")
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("patterns", [("*/*",), ("image/*",), ("image/svg+xml", "application/vnd.ms-excel")])
def test_patterns_are_exact_types_or_wildcards(patterns: tuple[str, ...]) -> None:
    assert StoragePolicy("d", "local", content_types=patterns).content_types == patterns
