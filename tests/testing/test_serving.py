"""The suite's checks of presigned URLs, on a backend in memory behind an HTTP server that believes any URL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pytest

from granite_storage.backends.base import Ability
from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.refs import StoredObjectRef
from granite_storage.testing.suite import BackendSuite
from granite_storage.testing.suite.sources import ref_to

Suite = BackendSuite()


class Served(MemoryStorageBackend):
    abilities: ClassVar[frozenset[Ability]] = MemoryStorageBackend.abilities | {Ability.PRESIGN}
    base = ""

    def presign_get(self, ref: StoredObjectRef, *, expires: int, content_type: str, content_disposition: str) -> str:
        headers = {"Content-Type": content_type, "Content-Disposition": content_disposition}
        return f"{self.base}/{quote(ref.location)}?{urlencode(headers)}"

    def object_path(self, ref: StoredObjectRef) -> str:
        return ref.location


class IgnoresTheDisposition(Served):
    def presign_get(self, ref: StoredObjectRef, **asked: Any) -> str:
        return super().presign_get(ref, **{**asked, "content_disposition": "attachment"})


class IgnoresTheType(Served):
    def presign_get(self, ref: StoredObjectRef, **asked: Any) -> str:
        return super().presign_get(ref, **{**asked, "content_type": ref.content_type})


class QuotesThePath(Served):
    def object_path(self, ref: StoredObjectRef) -> str:
        return quote(ref.location)


class RootedPath(Served):
    def object_path(self, ref: StoredObjectRef) -> str:
        return "/" + ref.location


@pytest.fixture
def serve() -> Iterator[Callable[[Served], Served]]:
    """Put a backend behind a server."""
    servers = []

    def start(backend: Served) -> Served:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                content = backend.get(ref_to(backend, unquote(address.path[1:])))
                self.send_response(200)
                for name, (value,) in parse_qs(address.query).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        backend.base = f"http://127.0.0.1:{server.server_port}"
        return backend

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("broken", [IgnoresTheDisposition, IgnoresTheType])
def test_a_url_that_gives_other_headers_fails_its_check(
    serve: Callable[[Served], Served], broken: type[Served]
) -> None:
    check = Suite.test_a_presigned_url_gives_the_object_with_the_headers_that_were_asked_for
    check(serve(Served()))
    with pytest.raises(AssertionError, match="the URL"):
        check(serve(broken()))


@pytest.mark.parametrize("broken", [QuotesThePath, RootedPath])
def test_a_path_that_is_not_the_location_fails_its_check(broken: type[Served]) -> None:
    check = Suite.test_the_path_below_a_public_url_ends_with_the_location
    check(Served())
    with pytest.raises(AssertionError):
        check(broken())
