"""Storage policies and the mistakes that they refuse."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import timedelta
from typing import Any

import pytest

from granite_storage.exceptions import ConfigurationError
from granite_storage.object_settings import ObjectSettings
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
        ({"retain": timedelta(seconds=-1)}, "retain"),
        ({"retain": 7}, "retain"),
        ({"retain": None}, "retain"),
        ({"former_prefixes": "docs"}, "former_prefixes must be several"),
        ({"former_prefixes": ("../up",)}, "former_prefixes: location"),
        ({"former_prefixes": (5,)}, "former_prefixes: a location is a str"),
        ({"former_prefixes": ("documents",)}, "are the same"),
        ({"former_prefixes": ("documents/old",)}, "inside the other"),
        ({"key_prefix": "docs/new", "former_prefixes": ("docs",)}, "inside the other"),
        ({"cache_control": "a\nb"}, "cache_control"),
        ({"metadata": {"a": "x" * 2048}}, "metadata has 2049 bytes"),
        ({"storage_class": ""}, "storage_class"),
        ({"encryption": "AES256"}, "encryption"),
        ({"kms_key_id": "k"}, "kms_key_id"),
        ({"tags": {str(number): "" for number in range(11)}}, "S3 takes 10"),
        ({"public_url": "cdn.example.com"}, "public_url"),
        ({"public_url": "ftp://cdn.example.com"}, "public_url"),
        ({"public_url": "https://"}, "public_url"),
        ({"public_url": "https://cdn.example.com/?a=b"}, "public_url"),
        ({"public_url": "https://cdn.example.com/#a"}, "public_url"),
        ({"public_url": "https://cdn.example.com/a b"}, "public_url"),
        ({"public_url": "https://cdn.example.com\n"}, "public_url"),
        ({"public_url": "javascript:alert(1)//"}, "public_url"),
        ({"public_url": b"https://cdn.example.com"}, "public_url"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoragePolicy(**{"storage_key": "documents", "backend_key": "local", **options})
    assert len(caught.value.problems) == 1
    assert named in caught.value.problems[0]


def test_freed_objects_are_retained_for_no_time_unless_it_says_so() -> None:
    assert StoragePolicy("documents", "local").retain == timedelta(0)
    assert StoragePolicy("documents", "local", retain=timedelta(days=7)).retain == timedelta(days=7)
    with pytest.raises(TypeError):
        StoragePolicy("documents", "local", None, None, timedelta(days=7))  # type: ignore[misc]  # by keyword only


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoragePolicy("documents", "local", -1, "..", content_types=("x", "y"), checksum="md6")
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("patterns", [("*/*",), ("image/*",), ("image/svg+xml", "application/vnd.ms-excel")])
def test_patterns_are_exact_types_or_wildcards(patterns: tuple[str, ...]) -> None:
    assert StoragePolicy("d", "local", content_types=patterns).content_types == patterns


def test_what_a_policy_says_of_its_objects_is_one_value() -> None:
    policy = StoragePolicy(
        "d", "s3", cache_control="no-store", metadata={"A": "b"}, tags={"A": "b"}, public_url="http://a/"
    )
    assert policy.settings == ObjectSettings("no-store", metadata={"a": "b"}, tags={"A": "b"})
    assert (policy.metadata, policy.tags, policy.public_url) == ({"a": "b"}, {"A": "b"}, "http://a")
    assert not StoragePolicy("d", "s3", public_url="http://[::1]:8000/a%20b").settings
    assert dataclasses.replace(policy, cache_control=None).settings == ObjectSettings(None, {"a": "b"}, tags={"A": "b"})
    assert policy == pickle.loads(pickle.dumps(policy))
    assert len({policy, copy.deepcopy(policy)}) == 1


def test_a_secret_in_a_public_url_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoragePolicy("d", "s3", public_url="https://user:s3cret@cdn.example.com")
    assert "s3cret" not in str(caught.value)
