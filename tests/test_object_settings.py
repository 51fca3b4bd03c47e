from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import pytest

from granite_storage.backends.base import Ability
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.exceptions import ConfigurationError
from granite_storage.manager import StorageManager
from granite_storage.object_settings import ObjectSettings
from granite_storage.policies import StoragePolicy
from granite_storage.refs import StoredObjectRef


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cache_control": ""}, "cache_control must be 1 to 256"),
        ({"cache_control": "x" * 257}, "cache_control must be 1 to 256"),
        ({"cache_control": "private\r\nSet-Cookie: a=b"}, "cache_control"),
        ({"cache_control": "na\u00efve"}, "cache_control"),
        ({"cache_control": 60}, "cache_control"),
        ({"storage_class": ""}, "storage_class"),
        ({"storage_class": "STANDARD IA"}, "storage_class"),
        ({"storage_class": 1}, "storage_class"),
        ({"encryption": "AES256"}, "encryption must be 'SSE-S3' or 'SSE-KMS'"),
        ({"encryption": []}, "encryption must be"),
        ({"kms_key_id": "k"}, "kms_key_id is for encryption='SSE-KMS'"),
        ({"encryption": "SSE-S3", "kms_key_id": "k"}, "kms_key_id is for encryption='SSE-KMS'"),
        ({"encryption": "SSE-KMS", "kms_key_id": ""}, "kms_key_id must be"),
        ({"encryption": "SSE-KMS", "kms_key_id": "a\nb"}, "kms_key_id must be"),
        ({"metadata": [("a", "b")]}, "metadata must be a dict"),
        ({"metadata": {"": "b"}}, "metadata: ''"),
        ({"metadata": {"a:b": "c"}}, "'a:b'"),
        ({"metadata": {"a\n": "c"}}, "no name of ASCII"),
        ({"metadata": {5: "c"}}, "metadata: 5"),
        ({"metadata": {"a": "\u00e4"}}, "percent-encode it"),
        ({"metadata": {"a": "b\r\nc"}}, "printable ASCII"),
        ({"metadata": {"a": " b"}}, "no space at its ends"),
        ({"metadata": {"a": 5}}, "the value of 'a'"),
        ({"metadata": {"a": "1", "A": "2"}}, "differ only in case"),
        ({"metadata": {"name": "x" * 1997}}, "has 2001 bytes, names and values together; there is room for 2000"),
        ({"tags": ["a"]}, "tags must be a dict"),
        ({"tags": {str(number): "" for number in range(11)}}, "tags are 11; S3 takes 10"),
        ({"tags": {"": "b"}}, "1 to 128"),
        ({"tags": {"x" * 129: "b"}}, "1 to 128"),
        ({"tags": {"\U00010400" * 65: "b"}}, "1 to 128"),
        ({"tags": {"AWS:x": "b"}}, "'aws:'"),
        ({"tags": {"a&b": "c"}}, "tags: 'a&b'"),
        ({"tags": {"a": "x" * 257}}, "at most 256"),
        ({"tags": {"a": "b\n"}}, "the value of 'a'"),
        ({"tags": {"a": None}}, "the value of 'a'"),
    ],
)
def test_what_a_store_would_refuse_is_named_with_its_limit(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ObjectSettings(**options)
    (problem,) = caught.value.problems
    assert named in problem
    assert len(problem) < 400


def test_what_is_at_the_limits_is_taken() -> None:
    settings = ObjectSettings(
        cache_control="x" * 256,
        metadata={"name": "x" * 1996},
        encryption="SSE-KMS",
        kms_key_id="arn:aws:kms:eu-west-1:123456789012:key/1234",
        tags={**{str(number): "" for number in range(9)}, "\U00010400" * 64: "\u00e4 +-=._:/@" + "x" * 246},
    )
    assert len(settings.tags or ()) == 10


def test_settings_are_plain_frozen_values() -> None:
    given = {"Project": "apollo"}
    settings = ObjectSettings("no-store", metadata=given, tags=given)
    given["Project"] = "gemini"
    assert (settings.metadata, settings.tags) == ({"project": "apollo"}, {"Project": "apollo"})
    for frozen in (settings.metadata, settings.tags):
        with pytest.raises(TypeError, match="frozen"):
            frozen["x"] = "y"  # type: ignore[index]
    assert settings == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert hash(settings) == hash(copy.copy(settings))


def test_settings_are_true_if_anything_is_set() -> None:
    assert not ObjectSettings()
    assert ObjectSettings(tags={})
    assert ObjectSettings(storage_class="STANDARD")


def test_a_backend_that_takes_no_settings_is_given_none() -> None:
    class Old(MemoryStorageBackend):
        """Its signatures are those of 0.1.0, and its abilities inherited."""

        def put_stream(  # type: ignore[override]
            self,
            *,
            key: str,
            stream: BinaryIO,
            size: int | None = None,
            checksum: str | None = None,
            content_type: str | None = None,
            original_filename: str | None = None,
            extra: Mapping[str, Any] | None = None,
        ) -> StoredObjectRef:
            return super().put_stream(key=key, stream=stream, content_type=content_type)

    class Third(Old):
        abilities: ClassVar[frozenset[Ability]] = frozenset()

    plain, told = StoragePolicy("plain", "it"), StoragePolicy("told", "it", tags={"a": "b"}, cache_control="no-store")
    manager = StorageManager({"it": Old()}, {"plain": plain})
    assert manager.copy("plain", manager.store("plain", b"content")).read() == b"content"
    manager = StorageManager({"it": Third()}, {"told": told})
    assert manager.copy("told", manager.store("told", b"content")).read() == b"content"
