"""What an S3 server's refusal, or a failed connection to it, asks of the reader: the second half of an error message.

The codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. A HEAD that is refused has
no body and so no code: boto3 gives the HTTP status in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_temporary", "remedy_of"]

_POLICIES = "look at the policies of the bucket and of the user"
_KEYS = "look at access_key and secret_key, or at what boto3 finds in their place"
_RENEW = "give new credentials, or let boto3 find and renew them"
_CLOCK = "set this machine's clock"
_CHECKSUMS = "if the server knows no checksum trailers, set request_checksum_calculation=when_required"
_NO_S3 = "look at endpoint_url: is an S3 server there?"
_SLOWER = "send fewer requests at a time, or raise max_attempts"
_REMEDIES = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "AccessDenied": _POLICIES,
    "AllAccessDisabled": _POLICIES,
    "AccountProblem": "look at the account's state",
    "403": _POLICIES,
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "InvalidToken": _RENEW,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": f"{_KEYS}; a proxy that changes requests does this, too",
    "RequestTimeTooSkewed": _CLOCK,
    "400": "look at the region, at the credentials' expiry, and at this machine's clock",
    "404": _NO_S3,
    "405": _NO_S3,
    "EntityTooLarge": "give the size beforehand, or raise part_size",
    "NoSuchUpload": "it was aborted meanwhile: does a lifecycle rule abort uploads too early?",
    "InvalidObjectState": "the object is archived: restore it first",
    "MissingContentLength": _CHECKSUMS,
    "NotImplemented": f"the server lacks this; {_CHECKSUMS}; if no conditions, conditional_writes=false",
    "501": f"the server does not know this request; {_CHECKSUMS}",
    "InvalidRequest": _CHECKSUMS,
    "XAmzContentSHA256Mismatch": f"the bytes were damaged on their way, or {_CHECKSUMS}",
    "BadDigest": "the bytes were damaged on their way: try again",
    "SlowDown": _SLOWER,
    "ServiceUnavailable": _SLOWER,
    "503": _SLOWER,
    # What boto3 raises if there is no answer, by the names of its classes.
    "EndpointConnectionError": "look at endpoint_url: is the server running, and its name known?",
    "ConnectTimeoutError": "look at endpoint_url, or raise connect_timeout",
    "ReadTimeoutError": "raise read_timeout if the server is slow",
    "SSLError": "look at endpoint_url (https or http?), or name the certificates to trust with ca_bundle",
    "ProxyConnectionError": "look at HTTPS_PROXY and HTTP_PROXY in the environment",
    "ResponseParserError": _NO_S3,
    "NoCredentialsError": "give access_key and secret_key, or set boto3 up to find them",
    "PartialCredentialsError": "give access_key and secret_key, or set boto3 up to find them",
    "NoRegionError": "give the option region",
    "FlexibleChecksumError": "the bytes were damaged on their way, or in the store: try again",
}
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_TEMPORARY = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "RequestTimeoutException",
    "TooManyRequests",
}
_TEMPORARY_STATUS = {429, 500, 502, 503, 504, 509}


def is_temporary(code: str, status: int = 0) -> bool:
    """Whether the same request may succeed later: the server is overloaded or failed, and did not refuse.

    :param code: of the S3 error; some servers give the HTTP status in its place.
    :param status: HTTP status of the answer, 0 if there is none of its own (one key of a batch).

    >>> is_temporary("SlowDown"), is_temporary("AccessDenied", 403), is_temporary("", 502)
    (True, False, True)
    """
    return code in _TEMPORARY or status in _TEMPORARY_STATUS or code in map(str, _TEMPORARY_STATUS)


def remedy_of(code: str, response: Mapping[str, Any] | None = None) -> str:
    """What to do about an error, as the end of a sentence; empty if nothing is known.

    :param code: of the S3 error, or the name of boto3's class if there was no answer.
    :param response: of boto3's error: it may tell the region that the server wants.

    >>> remedy_of("NoSuchBucket")
    'create the bucket, or correct its name'
    >>> remedy_of("PermanentRedirect", {"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}})
    "set region='eu-west-1', where the bucket is"
    """
    response = response or {}
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    if code in _WRONG_REGION:
        return f"set region={region!r}, where the bucket is" if region else "set the bucket's region"
    return _REMEDIES.get(code, "")
