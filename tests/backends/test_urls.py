from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granite_storage.backends.urls import BackendURL, boolean, mask_url
from granite_storage.exceptions import ConfigurationError


def test_a_url_is_taken_apart_and_decoded_once() -> None:
    url = BackendURL.parse("S3://AKIA:a%2Fb+c%2525@My.Bucket/live%20data/x?region=eu-west-1&secret_key=%26%3D")
    assert (url.scheme, url.username, url.password) == ("s3", "AKIA", "a/b+c%25")
    assert (url.host, url.path) == ("My.Bucket", "/live data/x")
    assert url.options == {"region": "eu-west-1", "secret_key": "&="}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("uploads", "starts with '<scheme>://'"),
        ("/var/uploads", "starts with '<scheme>://'"),
        ("file:/var/uploads", "starts with '<scheme>://'"),
        ("1s://x", "starts with '<scheme>://'"),
        ("file:///var/up#loads", "%23"),
        ("s3://bucket/a@b", "%40"),
        ("file:///srv?fsync", "without a value"),
        ("file:///srv?fsync=", "without a value"),
        ("file:///srv?fsync=1&fsync=0", "'fsync' twice"),
    ],
)
def test_what_is_no_backend_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        BackendURL.parse(url)


def test_an_unknown_option_names_itself_and_those_known() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option 'fsink'; a 'file' URL knows fsync, mode"):
        BackendURL.parse("file:///srv?fsink=no").read_options(fsync=boolean, mode=int)


def test_an_option_that_makes_no_sense_names_itself() -> None:
    with pytest.raises(ConfigurationError, match=r"option 'fsync' makes no sense \(expected true or false\)"):
        BackendURL.parse("file:///srv?fsync=maybe").read_options(fsync=boolean)


def test_the_words_for_on_and_off() -> None:
    assert [boolean(word) for word in ("true", "YES", "on", "1")] == [True] * 4
    assert [boolean(word) for word in ("False", "no", "off", "0")] == [False] * 4


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:///var/uploads?fsync=false&mode=0640", "file:///var/uploads?fsync=false&mode=0640"),
        ("file:///var/a@b", "file:///var/a@b"),
        ("memory://", "memory://"),
        ("s3://bucket/live?region=eu-west-1", "s3://bucket/live?region=eu-west-1"),
        ("s3://AKIA:HIDDEN@bucket/live", "s3://***@bucket/live"),
        ("s3://AKIA:HID/DEN@bucket/live", "s3://***@bucket/live"),
        ("s3://AKIA:HID?DEN@bucket/live", "s3://***@"),
        ("s3://bucket?secret_key=HID@DEN", "s3://***@"),
        ("s3://AKIA:HID@DEN@bucket/live", "s3://***@bucket/live"),
        ("s3://AKIA:HID#DEN@bucket", "s3://***@#***"),
        ("s3://AKIA:HIDDEN/bucket", "s3://***@"),
        ("s3://bucket?secret_key=HIDDEN&region=x", "s3://bucket?secret_key=***&region=x"),
        ("s3://bucket?secret%5Fkey=HIDDEN", "s3://bucket?secret%5Fkey=***"),
        ("s3://bucket?HIDDEN", "s3://bucket?***"),
        ("gs://bucket?anything=HIDDEN", "gs://bucket?anything=***"),
        ("s3://b?endpoint_url=http%3A%2F%2Fme%3AHIDDEN%40host%3A9000", "s3://b?endpoint_url=http://***@host:9000"),
        ("HIDDEN", "***"),
    ],
)
def test_secrets_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@given(
    st.text("abc/+?@:%=", min_size=1, max_size=8),
    st.sampled_from(
        ["s3://AK:{}@bucket/p?region=x", "s3://{}:x@bucket", "s3://bucket?secret_key={}", "x://b?t={}&x={}"]
    ),
)
def test_no_secret_is_in_a_repr_or_an_error_however_it_is_written(noise: str, template: str) -> None:
    secret = f"HIDDEN{noise}HIDDEN"
    url = template.replace("{}", secret)
    assert "HIDDEN" not in mask_url(url)
    try:
        parsed = BackendURL.parse(url)
        told = f"{parsed!r} {parsed}"
        parsed.read_options(region=int)
    except ConfigurationError as error:
        told = str(error)
    assert "HIDDEN" not in told
