from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_ENCODED = b"<EncodingType>url</EncodingType>"


def _prefixed(body: bytes) -> bytes:
    """The same XML with the namespace bound to a prefix, as some servers write it."""
    return (
        body.replace(b"</", b"</s3:")
        .replace(b"<", b"<s3:")
        .replace(b"<s3:/s3:", b"</s3:")
        .replace(b"<s3:?", b"<?")
        .replace(b"xmlns=", b"xmlns:s3=")
    )


@pytest.mark.parametrize(
    "written",
    [
        lambda body: body,
        lambda body: body.replace(_CLOSE, _CLOSE + b"\n  ").replace(_OPEN, _OPEN + b"\n    "),
        lambda body: body.replace(_OPEN, b'<Contents about="nothing">'),
        lambda body: body.replace(_OPEN, _OPEN + b"<!-- <Key>docs/none</Key> -->"),
        lambda body: body.replace(_CLOSE, b"<Other><![CDATA[</Contents>]]></Other>" + _CLOSE),
        lambda body: body.replace(b"<Key>docs", b"<Key>d&#111;cs"),
        lambda body: body.replace(b"<Key>docs", b"<Key><![CDATA[do]]>cs"),
        lambda body: body.replace(_ENCODED, b"").replace(_CLOSE, _CLOSE + (_ENCODED if _ENCODED in body else b""), 1),
        _prefixed,
    ],
    ids=[
        "as it is",
        "indented",
        "attributes",
        "comments",
        "CDATA",
        "entities",
        "CDATA in a key",
        "something between",
        "prefixes",
    ],
)
@pytest.mark.parametrize("encoded", [True, False])
def test_however_a_server_writes_its_xml_the_same_is_listed(
    s3: S3StorageBackend,
    s3_client: Any,
    on_request: Callable[..., None],
    written: Callable[[bytes], bytes],
    encoded: bool,
) -> None:
    names = ("docs/a b+c%25.bin", "docs/a.bin", "docs/é.bin")
    for number, name in enumerate(names):
        s3.put_bytes(key=name, content=bytes(number))

    def rewrite(response_dict: dict[str, Any], **_: Any) -> None:
        response_dict["body"] = written(response_dict["body"])

    if not encoded:
        on_request("ListObjectsV2", lambda params: params["query_string"].pop("encoding-type"))
    s3_client.meta.events.register_first("before-parse.*.ListObjectsV2", rewrite)
    assert [(one.location, one.size) for one in s3.iter_objects()] == [(name, at) for at, name in enumerate(names)]


def test_an_answer_that_is_broken_off_is_no_shorter_listing(s3: S3StorageBackend, s3_client: Any) -> None:
    for name in "abc":
        s3.put_bytes(key=f"docs/{name}", content=b"x")

    def cut(response_dict: dict[str, Any], **_: Any) -> None:
        body = response_dict["body"]
        response_dict["body"] = body[: body.index(b"docs/b" if b"docs/b" in body else b"docs%2Fb")]

    s3_client.meta.events.register_first("before-parse.*.ListObjectsV2", cut)
    with pytest.raises(BackendError):
        list(s3.iter_locations())
