from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.registry import backend_from_url
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_options import options_of
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import ConfigurationError


def test_a_url_gives_every_option(tmp_path: Path) -> None:
    url = BackendURL.parse(
        "s3://AK%2BIA:se%2Fcret@Bucket/live/eu?region=eu-west-1&endpoint_url=http%3A%2F%2Flocalhost%3A9000"
        "&session_token=t&addressing_style=path&request_checksum_calculation=when_required"
        "&response_checksum_validation=when_required&max_pool_connections=5&conditional_writes=no&part_size=6000000"
        f"&ordered_listing=no&leftovers=no&ca_bundle={tmp_path}"
    )
    assert options_of(url) == {
        "bucket": "Bucket",
        "prefix": "/live/eu",
        "access_key": "AK+IA",
        "secret_key": "se/cret",
        "session_token": "t",
        "region": "eu-west-1",
        "endpoint_url": "http://localhost:9000",
        "addressing_style": "path",
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "max_pool_connections": 5,
        "conditional_writes": False,
        "part_size": 6_000_000,
        "ordered_listing": False,
        "leftovers": False,
        "ca_bundle": str(tmp_path),
    }
    S3StorageBackend(**options_of(url))


def test_keys_may_stand_in_the_query() -> None:
    options = options_of(BackendURL.parse("s3://bucket?access_key=AKIA&secret_key=a+b%2F"))
    assert (options["access_key"], options["secret_key"]) == ("AKIA", "a+b/")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://", "names a bucket"),
        ("s3:///prefix", "names a bucket"),
        ("s3://localhost:9000/bucket", "endpoint_url"),
        ("s3://bucket?regoin=x", "'regoin'; a 's3' URL knows region, endpoint_url"),
        ("s3://bucket?max_pool_connections=HIDDEN", "max_pool_connections"),
        ("s3://K:HIDDEN@bucket?secret_key=HIDDEN2", "secret_key twice"),
        ("s3://KHIDDEN@bucket", "both or neither"),
        ("s3://bucket/../x", "prefix"),
        ("s3://bucket?part_size=1000", "part_size"),
        ("s3://bucket?part_size=5368709121", "part_size: 5368709121 bytes are more than 5368709120"),
        ("s3://bucket?upload_memory=-1", "upload_memory: -1"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_secrets(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        backend_from_url(url)
    if "max_pool" not in url:
        assert "HIDDEN" not in str(raised.value)


def test_all_problems_are_told_at_once() -> None:
    arguments: dict[str, Any] = {"IfNoneMatch": "*", "Key": "x"}
    with pytest.raises(ConfigurationError) as raised:
        S3StorageBackend(bucket="", prefix="a//b", extra_put_kwargs=arguments, secret_key="x", part_size=1)
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "bucket",
        "prefix",
        "access_key and secret_key",
        "part_size",
        "extra_put_kwargs",
        "extra_put_kwargs",
    ]


@pytest.mark.parametrize("header", ["SSECustomerKey", "RequestPayer"])
def test_where_a_browser_lacks_a_header_there_are_no_direct_uploads(header: str) -> None:
    assert has_ability(S3StorageBackend(bucket="bucket"), Ability.DIRECT_UPLOAD)
    backend = S3StorageBackend(bucket="bucket", extra_put_kwargs={header: "x"})
    assert not has_ability(backend, Ability.DIRECT_UPLOAD)


def test_what_a_server_lacks_is_not_declared() -> None:
    lacking = {
        "conditional_writes": Ability.NO_OVERWRITE,
        "ordered_listing": Ability.ORDERED_LISTING,
    }
    for option, ability in lacking.items():
        assert has_ability(backend_from_url("s3://bucket"), ability)
        assert not has_ability(backend_from_url(f"s3://bucket?{option}=false"), ability)
