"""What goes wrong between a client and an S3 server: each is done to one request by :class:`FaultyProxy`."""

from __future__ import annotations

from base64 import b64encode
from binascii import crc32
from collections.abc import Mapping
from xml.sax.saxutils import escape

from tests.backends.s3_faults.proxy import Answer, Exchange, Fault

__all__ = [
    "REQUEST_ID",
    "damaged_answer",
    "damaged_request",
    "lost_answer",
    "lost_request",
    "refused",
    "reset_answer",
    "stalled",
    "stalled_answer",
    "truncated_answer",
    "web_page",
    "wrong_region",
]

REQUEST_ID = "TESTREQUEST0001"


def refused(status: int, code: str, message: str = "so it is", **headers: str) -> Fault:
    """The server answers with an error, as S3 does: XML, but to a HEAD no more than the status."""

    def act(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(_error(status, code, message, {name.replace("_", "-"): text for name, text in headers.items()}))

    return act


def _error(status: int, code: str, message: str, headers: Mapping[str, str], more: str = "") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>".encode()
    return Answer(status, {"Content-Type": "application/xml", "x-amz-request-id": REQUEST_ID, **headers}, body)


def web_page(status: int) -> Fault:
    """What answers is a web server that knows nothing of S3."""

    def act(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(Answer(status, {"Content-Type": "text/html"}, b"<!doctype html><p>Welcome<br>to nginx!"))

    return act


def wrong_region(wanted: str, status: int = 400) -> Fault:
    """The bucket is in the region ``wanted``: a request that is signed for another is told so, any other passes."""

    def act(exchange: Exchange) -> None:
        if f"/{wanted}/s3/aws4_request" in exchange.headers["Authorization"]:
            exchange.send(exchange.forward())
            return
        exchange.body()
        code = "AuthorizationHeaderMalformed" if status == 400 else "PermanentRedirect"
        more = f"<Region>{wanted}</Region>" if status == 400 else ""
        exchange.send(_error(status, code, "the region is wrong", {"x-amz-bucket-region": wanted}, more))

    return act


def lost_request(exchange: Exchange) -> None:
    """The connection is reset in the middle of the request: the server never has it."""
    exchange.half_of_body()
    exchange.reset()


def lost_answer(exchange: Exchange) -> None:
    """The server does what it was asked, and the connection is reset before it can say so."""
    exchange.forward()
    exchange.reset()


def reset_answer(exchange: Exchange) -> None:
    """The connection is reset in the middle of the answer's body."""
    exchange.send(exchange.forward(), 0.5)
    exchange.reset()


def truncated_answer(exchange: Exchange) -> None:
    """The connection ends in order, but in the middle of the answer's body."""
    exchange.send(exchange.forward(), 0.5)


def stalled(exchange: Exchange) -> None:
    """No answer comes, and the connection stays open."""
    exchange.body()
    _hold(exchange)


def stalled_answer(exchange: Exchange) -> None:
    """Nothing comes after the first half of the answer's body, and the connection stays open."""
    exchange.send(exchange.forward(), 0.5)
    _hold(exchange)


def _hold(exchange: Exchange) -> None:
    """Until the client gives up; the proxy's end ends it as well."""
    while not exchange.ended.is_set() and exchange.client.recv(65536):
        pass


def damaged_answer(exchange: Exchange) -> None:
    """A bit of the answer's body is another; as from Amazon's server, a whole object comes with its checksum."""
    answer = exchange.forward()
    headers = dict(answer.headers)
    if exchange.headers["x-amz-checksum-mode"] and not exchange.headers["Range"]:
        headers["x-amz-checksum-crc32"] = b64encode(crc32(answer.body).to_bytes(4)).decode()
    exchange.send(Answer(answer.status, headers, _damaged(answer.body)))


def damaged_request(exchange: Exchange) -> None:
    """A bit of the request's body is another."""
    exchange.send(exchange.forward(_damaged(exchange.body())))


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body
