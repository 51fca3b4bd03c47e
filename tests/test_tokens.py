"""A token is taken back only as it was made, for what it was made, and in time."""

from __future__ import annotations

import base64
import json
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from granite_storage import ConfigurationError, StorageManager
from granite_storage.exceptions import TokenError, TokenExpiredError
from granite_storage.tokens import KeyRing

OLD, NEW, OTHER = "old-" * 8, "new-" * 8, "other-" * 8
LATER = datetime.now(UTC) + timedelta(hours=1)


def test_a_token_gives_back_what_was_signed() -> None:
    token = KeyRing(OLD).sign("tickets", {"seat": 7, "name": "Zoë"}, LATER)
    assert KeyRing(OLD).read("tickets", token) == {"seat": 7, "name": "Zoë"}


def test_a_token_is_fit_for_urls_and_forms() -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", KeyRing(OLD).sign("tickets", {"name": "Zoë &?/" * 20}, LATER))


def test_the_newest_key_signs_and_all_verify() -> None:
    token = KeyRing(OLD).sign("tickets", {"seat": 7}, LATER)
    ring = KeyRing([NEW, OLD])
    assert ring.read("tickets", token) == {"seat": 7}
    newest = ring.sign("tickets", {"seat": 8}, LATER)
    assert KeyRing(NEW).read("tickets", newest) == {"seat": 8}
    with pytest.raises(TokenError):
        KeyRing(OLD).read("tickets", newest)


def test_a_callable_is_asked_each_time() -> None:
    keys = [OLD]
    ring = KeyRing(lambda: keys)
    token = ring.sign("tickets", {}, LATER)
    keys[:] = [NEW]
    with pytest.raises(TokenError):
        ring.read("tickets", token)
    keys[:] = [NEW, OLD]
    assert ring.read("tickets", token) == {}


def test_a_token_of_another_key_or_purpose_is_refused() -> None:
    token = KeyRing(OLD).sign("tickets", {}, LATER)
    with pytest.raises(TokenError):
        KeyRing(OTHER).read("tickets", token)
    with pytest.raises(TokenError):
        KeyRing(OLD).read("refunds", token)


@pytest.mark.parametrize(
    "forge", ["changed payload", "changed signature", "no signature", "nothing", "long", "not text"]
)
def test_a_forged_token_is_refused_and_the_error_holds_nothing_of_it(forge: str) -> None:
    ring = KeyRing(OLD)
    payload, _, signature = ring.sign("tickets", {"seat": 7}, LATER).rpartition(".")
    other = base64.urlsafe_b64encode(json.dumps({"seat": 8, "exp": 2**40}).encode()).decode().rstrip("=")
    forged = {
        "changed payload": f"{other}.{signature}",
        "changed signature": f"{payload}.{signature[:-4]}AAAA",
        "no signature": payload,
        "nothing": "",
        "long": "x" * 1_000_000,
        "not text": None,
    }[forge]
    with pytest.raises(TokenError) as caught:
        ring.read("tickets", forged)  # type: ignore[arg-type]
    assert caught.value.http_status == 403
    assert caught.value.__cause__ is None and signature[:6] not in str(caught.value)


def test_a_token_expires() -> None:
    ring = KeyRing(OLD)
    token = ring.sign("tickets", {}, datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(TokenExpiredError) as caught:
        ring.read("tickets", token)
    assert caught.value.http_status == 410


@pytest.mark.parametrize("keys", ["x" * 31, [NEW, "x" * 31], [], "", [b"x" * 40]])
def test_short_missing_and_unfit_keys_are_refused_at_once(keys: object) -> None:
    with pytest.raises(ConfigurationError, match="secret_keys") as caught:
        StorageManager({"memory": "memory://"}, {}, secret_keys=keys)  # type: ignore[arg-type]
    assert "xxx" not in str(caught.value)


def test_a_short_key_of_a_callable_is_refused_when_it_is_used() -> None:
    ring = KeyRing(lambda: "short")
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        ring.sign("tickets", {}, LATER)


def test_without_keys_nothing_is_signed_or_read() -> None:
    for call in (lambda: KeyRing().sign("tickets", {}, LATER), lambda: KeyRing().read("tickets", "x.y")):
        with pytest.raises(ConfigurationError, match="secret_keys"):
            call()


def test_a_missing_itsdangerous_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itsdangerous", None)
    for call in (lambda: KeyRing(OLD).sign("tickets", {}, LATER), lambda: KeyRing(OLD).read("tickets", "x.y")):
        with pytest.raises(ConfigurationError, match=r"granite-storage\[direct\]"):
            call()


def test_a_repr_holds_no_key() -> None:
    assert OLD not in repr(KeyRing(OLD)) and OLD not in repr(StorageManager({}, {}, secret_keys=OLD))
