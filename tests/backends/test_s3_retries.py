from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config

from granite_storage import backend_from_url
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.backends.s3_retries import attempts_of
from granite_storage.exceptions import ConfigurationError


def _config(backend: Any) -> Any:
    return backend._client().meta.config


def test_retries_and_timeouts_reach_boto3_from_a_url() -> None:
    backend = backend_from_url(
        "s3://b?region=us-east-1&retry_mode=adaptive&max_attempts=7&connect_timeout=1.5&read_timeout=2"
    )
    config = _config(backend)
    assert config.retries == {"mode": "adaptive", "total_max_attempts": 7}
    assert (config.connect_timeout, config.read_timeout) == (1.5, 2.0)
    assert attempts_of(backend._client()) == 7  # type: ignore[attr-defined]


def test_what_is_not_given_stays_boto3s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    config = _config(S3StorageBackend(bucket="b", region="us-east-1"))
    assert config.retries == {"mode": "legacy", "total_max_attempts": 4}
    assert (config.connect_timeout, config.read_timeout) == (60, 60)


@pytest.mark.parametrize(
    ("retries", "attempts"),
    [
        ({"mode": "legacy"}, 5),
        ({"mode": "standard"}, 3),
        ({"mode": "standard", "total_max_attempts": 9}, 9),
        ({"mode": "legacy", "max_attempts": 0}, 1),
    ],
)
def test_the_attempts_of_any_client_are_known(retries: dict[str, Any], attempts: int) -> None:
    client = boto3.client("s3", region_name="us-east-1", config=Config(retries=retries))
    assert attempts_of(client) == attempts
    client.close()


def test_settings_that_make_no_sense_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigurationError) as raised:
        S3StorageBackend(bucket="b", retry_mode="often", max_attempts=0, connect_timeout=-1, read_timeout=float("nan"))
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "retry_mode",
        "max_attempts",
        "connect_timeout",
        "read_timeout",
    ]
