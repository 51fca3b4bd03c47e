"""An HTTP proxy on loopback before an S3 server, that does to a request what a rule says: see :mod:`faults`.

It has its own connection to the server for each request, and forwards the ``Host`` of the client, since that is signed.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

__all__ = ["Answer", "Exchange", "Fault", "FaultyProxy", "faulty_proxy"]

_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def head(self, *, last: bool) -> bytes:
        """Status line and headers; the length is that of the whole body, whatever of it is sent."""
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        if "content-length" not in {name.lower() for name in self.headers} and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body)}")
        if last:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(slots=True)
class Exchange:
    """One request, and what can be done with it. Its body is read from the client when it is first asked for."""

    operation: str
    method: str
    target: str
    headers: http.client.HTTPMessage
    client: socket.socket
    ended: threading.Event
    _input: BinaryIO = field(repr=False)
    _server: tuple[str, int] = field(repr=False)
    _body: bytes | None = field(default=None, repr=False)

    def body(self) -> bytes:
        if self._body is None:
            self._go_on()
            self._body = self._read_body(self._input)
        return self._body

    def half_of_body(self) -> None:
        """Take half of the body from the client."""
        self._go_on()
        self._input.read(int(self.headers["Content-Length"] or 0) // 2)

    def _go_on(self) -> None:
        if "100-continue" in (self.headers["Expect"] or ""):
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, source: BinaryIO) -> bytes:
        if "chunked" not in (self.headers["Transfer-Encoding"] or ""):
            return source.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(source.readline().split(b";")[0], 16):
            parts.append(source.read(size))
            source.readline()
        source.readline()
        return b"".join(parts)

    def forward(self, body: bytes | None = None) -> Answer:
        """What the server answers to the request, or to the same with another body."""
        body = self.body() if body is None else body
        connection = http.client.HTTPConnection(*self._server, timeout=60)
        try:
            connection.putrequest(self.method, self.target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            got = connection.getresponse()
            return Answer(got.status, dict(got.getheaders()), got.read())
        finally:
            connection.close()

    def send(self, answer: Answer, upto: float = 1.0, *, last: bool = True) -> None:
        """Send an answer, or only the first part of its body; the ``last`` on this connection says so."""
        body = b"" if self.method == "HEAD" else answer.body
        self.client.sendall(answer.head(last=last) + body[: int(len(body) * upto)])

    def reset(self) -> None:
        """End the connection with a RST, as a router that has forgotten it does."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()


Fault = Callable[[Exchange], None]
"""What is done to a request instead of forwarding it; the connection ends after it."""


@dataclass(slots=True)
class _Rule:
    operation: str
    fault: Fault
    skip: int
    times: int


class FaultyProxy:
    """Forwards requests; those that a rule is for meet its fault."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        assert parts.hostname and parts.port
        self.seen: list[str] = []
        self.connections = 0
        self._server = (parts.hostname, parts.port)
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clients: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, operation: str, fault: Fault, *, skip: int = 0, times: int = 10**9) -> None:
        """Let requests of an operation (``"PutObject"``, ``"*"`` for all) meet a fault.

        :param skip: how many of them pass before.
        :param times: how many of them meet it after that.
        """
        with self._lock:
            self._rules.append(_Rule(operation, fault, skip, times))

    def clear(self) -> None:
        """From now on all pass; what was seen is forgotten."""
        with self._lock:
            self._rules = []
            self.seen = []

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = client.makefile("rb")
        try:
            with suppress(OSError, ValueError):
                while line := source.readline().decode("latin-1"):
                    method, target, _ = line.split(" ", 2)
                    headers = http.client.parse_headers(source)
                    exchange = Exchange(
                        _operation(method, target, headers), method, target, headers, client, self._ended, source,
                        self._server,
                    )  # fmt: skip
                    if not self._pass(exchange):
                        return
        finally:
            self._clients.discard(client)
            source.close()
            client.close()

    def _pass(self, exchange: Exchange) -> bool:
        """Whether the connection goes on."""
        fault = self._fault(exchange.operation)
        if fault is None:
            exchange.send(exchange.forward(), last=False)
            return True
        fault(exchange)
        return False

    def _fault(self, operation: str) -> Fault | None:
        with self._lock:
            self.seen.append(operation)
            for rule in self._rules:
                if rule.operation in ("*", operation):
                    if rule.skip:
                        rule.skip -= 1
                    elif rule.times:
                        rule.times -= 1
                        return rule.fault
        return None


@contextmanager
def faulty_proxy(server: str) -> Iterator[FaultyProxy]:
    """A proxy before the server with that URL, for the length of a ``with`` block."""
    made = FaultyProxy(server)
    try:
        yield made
    finally:
        made.close()


_OPERATIONS = {
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("POST", "delete"): "DeleteObjects",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "list-type"): "ListObjectsV2",
}


def _operation(method: str, target: str, headers: Mapping[str, str]) -> str:
    """The name that boto3 gives to a request with a bucket in its path."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    name = next((name for (of, key), name in _OPERATIONS.items() if of == method and key in query), None)
    if name is None:
        thing = "Object" if re.fullmatch(r"/[^/]+/.+", parts.path) else "Bucket"
        name = method.title() + thing
        if name == "PutObject" and headers.get("x-amz-copy-source"):
            return "CopyObject"
    return name + "Copy" if name == "UploadPart" and headers.get("x-amz-copy-source") else name
