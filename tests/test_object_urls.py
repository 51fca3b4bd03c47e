"""URLs of files: what is asked for, what is refused, and where they point."""

from __future__ import annotations

import asyncio
import io
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from granite_storage import (
    InvalidURLError,
    LocalStorageBackend,
    MemoryStorageBackend,
    NotStoredError,
    NotSupportedError,
    S3StorageBackend,
    StorageBackend,
    StorageError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    Upload,
)

CDN = "https://cdn.example.com/files"
REF = StoredObjectRef("images", "s3", "images/2026/11/25/x.png", 5, "", "image/png", "sea.png")


def s3(**options: Any) -> S3StorageBackend:
    """A backend that signs, and whose bucket is never asked."""
    keys = {"access_key": "AKIA", "secret_key": "secret", "region": "eu-central-1"}
    return S3StorageBackend(**{"bucket": "my-bucket", "prefix": "live", **keys, **options})


@pytest.fixture
def manager() -> StorageManager:
    return StorageManager(
        {"s3": s3(), "other": s3(bucket="other")},
        {
            "images": StoragePolicy("images", "s3"),
            "public": StoragePolicy("public", "s3", public_url=CDN + "/"),
        },
    )


def told(url: str) -> dict[str, str]:
    """The parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def served(url: str) -> tuple[str, str]:
    """The type and disposition that a URL asks for."""
    return told(url)["response-content-type"], told(url)["response-content-disposition"]


# Presigned


def test_a_url_is_signed_for_an_hour_and_the_object_shown_as_it_was_accepted(manager: StorageManager) -> None:
    url = manager.file(REF).url()
    assert urlsplit(url).path == "/live/images/2026/11/25/x.png"
    assert told(url)["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert told(url)["X-Amz-Expires"] == "3600"
    assert served(url) == ("image/png", 'inline; filename="sea.png"')
    assert served(manager.url(REF)) == served(url)


def test_a_download_is_an_attachment_under_another_name(manager: StorageManager) -> None:
    url = manager.url(REF, download=True, filename='\u65e5\u672c "x"\r\n.png')
    assert served(url) == (
        "image/png",
        "attachment; filename=\"__ _x_.png\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%20%22x%22.png",
    )


@pytest.mark.parametrize(
    ("accepted", "asked", "kind"),
    [
        ("image/png", None, "inline"),
        ("image/png", "image/gif", "inline"),
        ("text/html", None, "attachment"),
        ("text/html", "image/png", "attachment"),
        ("application/octet-stream", "image/png", "attachment"),
        ("image/svg+xml", "image/png", "attachment"),
        ("image/png", "text/html", "attachment"),
        ("image/png", "text/html; charset=utf-8", "attachment"),
        ("image/png", "image/svg+xml", "attachment"),
        ("image/png", "application/pdf", "attachment"),
        (None, None, "attachment"),
        (None, "image/png", "attachment"),
        ("image/png\r\nX-Evil: 1", None, "attachment"),
    ],
)
def test_only_what_was_accepted_as_harmless_and_is_served_as_harmless_is_inline(
    manager: StorageManager, accepted: str | None, asked: str | None, kind: str
) -> None:
    ref = REF.replace(content_type=accepted)
    content_type, disposition = served(manager.url(ref, content_type=asked, download=False))
    assert disposition.partition(";")[0] == kind
    assert content_type == (asked or (accepted if accepted and "\r" not in accepted else "application/octet-stream"))


@pytest.mark.parametrize("content_type", ["png", "image/png\r\nX: y", "", "image/png, text/html"])
def test_a_content_type_that_is_none_is_refused(manager: StorageManager, content_type: str) -> None:
    with pytest.raises(InvalidURLError, match=r"content_type: .* is no media type"):
        manager.url(REF, content_type=content_type)


@pytest.mark.parametrize("name", ["filename", "content_type"])
def test_what_is_no_text_is_refused_by_its_name(manager: StorageManager, name: str) -> None:
    with pytest.raises(InvalidURLError, match=f"{name} is a str, not bytes"):
        manager.url(REF, **{name: b"image/png"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [
        (1, "1"),
        (1.9, "1"),
        (604_800, "604800"),
        (timedelta(days=7), "604800"),
        (timedelta(minutes=5), "300"),
    ],
)
def test_a_url_is_valid_for_as_long_as_is_asked(manager: StorageManager, expires: Any, seconds: str) -> None:
    assert told(manager.url(REF, expires=expires))["X-Amz-Expires"] == seconds


@pytest.mark.parametrize(
    "expires", [0, 0.5, -1, timedelta(0), timedelta(days=-1), float("nan"), float("inf"), True, "60"]
)
def test_a_url_that_is_never_valid_is_refused(manager: StorageManager, expires: Any) -> None:
    with pytest.raises(InvalidURLError, match="1 or more"):
        manager.url(REF, expires=expires)


@pytest.mark.parametrize("expires", [604_801, timedelta(days=7, seconds=1), 10**12])
def test_a_url_that_is_valid_for_too_long_is_refused_with_the_limit(manager: StorageManager, expires: Any) -> None:
    with pytest.raises(InvalidURLError, match=r"604800 \(7 days\) at most"):
        manager.url(REF, expires=expires)


def test_a_staged_upload_has_no_url(manager: StorageManager) -> None:
    staged = StoredFile(manager, Upload(io.BytesIO(b"x"), "x.png"))
    with pytest.raises(NotStoredError):
        staged.url()
    with pytest.raises(NotStoredError):
        asyncio.run(staged.aurl())


def test_the_same_awaited(manager: StorageManager) -> None:
    async def run() -> list[str]:
        options: dict[str, Any] = {"expires": 60, "download": True, "filename": "x.html", "content_type": "text/html"}
        return [await manager.aurl(REF, **options), await manager.file(REF).aurl(**options)]

    for url in asyncio.run(run()):
        assert served(url) == ("text/html", 'attachment; filename="x.html"')
        assert told(url)["X-Amz-Expires"] == "60"


def test_a_backend_without_urls_says_what_to_do(tmp_path: Path) -> None:
    backends: dict[str, StorageBackend] = {"mine": MemoryStorageBackend(), "disk": LocalStorageBackend(tmp_path)}
    for name, backend in backends.items():
        policy = StoragePolicy("images", name, public_url=CDN)
        stored = StorageManager({name: backend}, {"images": policy}).store("images", b"x")
        with pytest.raises(
            NotSupportedError, match=f"backend '{name}' is not able to make URLs: serve the file through"
        ):
            stored.url()


# Public


def test_a_public_url_is_the_base_and_the_quoted_key(manager: StorageManager) -> None:
    location = "public/2026/a b+c%20d&e=f?g#h;i'j\"k\u00e4\u65e5~.png"
    url = manager.url(REF.replace(storage_key="public", location=location))
    assert url == f"{CDN}/live/public/2026/" + "a%20b%2Bc%2520d%26e%3Df%3Fg%23h%3Bi%27j%22k%C3%A4%E6%97%A5~.png"
    assert unquote(url) == f"{CDN}/live/{location}"


@pytest.mark.parametrize(
    "option",
    [{"expires": 60}, {"download": True}, {"filename": "x.png"}, {"content_type": "image/gif"}],
    ids=lambda option: next(iter(option)),
)
def test_what_a_public_url_cannot_do_is_signed(manager: StorageManager, option: dict[str, Any]) -> None:
    assert "X-Amz-Signature" in told(manager.url(REF.replace(storage_key="public"), **option))


def test_a_file_that_is_elsewhere_now_is_not_below_its_policys_public_url(manager: StorageManager) -> None:
    url = manager.url(REF.replace(storage_key="public", backend="other"))
    assert urlsplit(url).netloc == "other.s3.eu-central-1.amazonaws.com"
    assert "X-Amz-Signature" in told(url)


def test_a_file_of_a_policy_that_is_gone_is_signed(manager: StorageManager) -> None:
    assert "X-Amz-Signature" in told(manager.url(REF.replace(storage_key="gone")))


# Nothing is shown


def test_no_url_is_logged_or_shown(manager: StorageManager, caplog: pytest.LogCaptureFixture) -> None:
    file = manager.file(REF)
    with caplog.at_level(logging.DEBUG, logger="granite_storage"):
        url = file.url()
        for refused in ({"expires": 10**9}, {"content_type": "x"}):
            with pytest.raises(StorageError) as caught:
                file.url(**refused)  # type: ignore[arg-type]
            assert "X-Amz" not in str(caught.value)
            assert "sea.png" not in str(caught.value)
    signature = told(url)["X-Amz-Signature"]
    for shown in (repr(file), repr(file.ref), repr(manager), repr(manager.policies), caplog.text):
        assert signature not in shown
        assert "X-Amz" not in shown
