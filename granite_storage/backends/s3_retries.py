"""How often and how long an S3 client tries: boto3's own settings, and what is known of them afterwards."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from granite_storage.exceptions import ConfigurationError

__all__ = ["attempts_of", "note_attempts", "note_tried", "retry_config", "tried"]

_E = TypeVar("_E", bound=Exception)
_MODES = ("legacy", "standard", "adaptive")
_DEFAULT_ATTEMPTS = {"legacy": 5, "standard": 3, "adaptive": 3}
_TRIED = "granite_storage_attempts"


def retry_config(
    retry_mode: str | None, max_attempts: int | None, connect_timeout: float | None, read_timeout: float | None
) -> dict[str, Any]:
    """The arguments of ``botocore.config.Config`` for the options; None leaves one to boto3.

    :param max_attempts: how often a request is sent at most, the first time included.
    :param connect_timeout: seconds.
    :param read_timeout: seconds without a byte from the server.
    :raises ConfigurationError: naming all options that make no sense.

    >>> retry_config("standard", 3, None, 10)
    {'retries': {'mode': 'standard', 'total_max_attempts': 3}, 'read_timeout': 10}
    """
    problems = []
    if retry_mode not in (None, *_MODES):
        problems.append(f"retry_mode: {retry_mode!r} is none of {', '.join(_MODES)}")
    if max_attempts is not None and max_attempts < 1:
        problems.append(f"max_attempts: {max_attempts} is less than 1; the first attempt counts")
    timeouts = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
    problems += [
        f"{name}: {value} is no number of seconds above 0"
        for name, value in timeouts.items()
        if value is not None and not 0 < value < math.inf
    ]
    if problems:
        raise ConfigurationError("the S3 backend cannot try requests like this:", problems)
    retries = {"mode": retry_mode, "total_max_attempts": max_attempts}
    retries = {name: value for name, value in retries.items() if value is not None}
    config: dict[str, Any] = {"retries": retries} if retries else {}
    return config | {name: value for name, value in timeouts.items() if value is not None}


def attempts_of(client: Any) -> int:
    """How often a client sends a request at most, the first time included.

    boto3 tries again until the answer begins; whoever reads a body goes on by the same setting.
    """
    retries = client.meta.config.retries or {}
    attempts = retries.get("total_max_attempts") or _DEFAULT_ATTEMPTS.get(retries.get("mode", ""), 1)
    return max(1, int(attempts))


def note_attempts(client: Any) -> None:
    """Let the client's transport errors know how often the request was sent: boto3 tells it of answers only."""

    def note(attempts: int, caught_exception: Exception | None = None, **_: Any) -> None:
        if caught_exception is not None:
            note_tried(caught_exception, attempts)

    client.meta.events.register_first("needs-retry.s3", note)  # before the one that raises it


def note_tried(error: _E, attempts: int) -> _E:
    """Note with an error how often was tried what ended in it."""
    setattr(error, _TRIED, attempts)
    return error


def tried(error: Exception) -> int | None:
    """How often the request was sent that ended in an error of boto3; None if that is not known."""
    answer = (getattr(error, "response", None) or {}).get("ResponseMetadata", {})
    if "RetryAttempts" in answer:
        return int(answer["RetryAttempts"]) + 1
    return getattr(error, _TRIED, None)
