"""A server that answers ListObjectsV2 and nothing else, from answers that are made beforehand.

Listing 200 000 keys from a real server measures that server: those at hand give 300 to 3 000 keys/s. This one costs
next to nothing, so that what is left is the clients. It does what Amazon's does: pages of a thousand in byte order,
``prefix``, ``start-after``, ``continuation-token`` and ``encoding-type=url``.
"""

from __future__ import annotations

import multiprocessing
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from granite_storage.locations import new_location

__all__ = ["PAGE", "Handler", "entry", "listing", "listing_server", "serve", "serving"]

PAGE = 1000
"""How many objects a listing tells at once."""
_DAY = 24 * 3600 * 1000  # milliseconds
_FIRST = 1_767_225_600_000  # 2026-01-01
_ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-31T10:20:30.{:03}Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_BODY = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bucket</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>{}{}</ListBucketResult>"
)


@contextmanager
def listing_server(count: int, days: int) -> Iterator[str]:
    """The URL of a server, in a process of its own, whose one bucket has ``count`` objects of so many days."""
    with serving(_serve, count, days) as url:
        yield url


@contextmanager
def serving(target: Callable[..., None], *args: Any) -> Iterator[str]:
    """The URL of a server in a process of its own: of what ``target``, called with a pipe and ``args``, serves."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *args), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def serve(pipe: Connection, handler: type[Handler]) -> None:
    """Tell the port through a pipe, and serve for ever."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    pipe.send(server.server_address[1])
    server.serve_forever()


def entry(key: str, size: int) -> str:
    """One object in a listing."""
    return _ENTRY.format(key, size % 1000, size)


def listing(prefix: str, entries: Sequence[str], token: str | None) -> str:
    """One page of a listing; ``token`` is where the next one goes on."""
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return _BODY.format(prefix, len(entries), "true" if token else "false", more, "".join(entries))


class Handler(BaseHTTPRequestHandler):
    """Answers over HTTP/1.1, headers and body in one segment."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def asked(self) -> dict[str, str]:
        """The request's parameters."""
        query = urlsplit(self.path).query
        return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}

    def answer(self, text: str = "", status: int = 200) -> None:
        """Send XML."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _serve(pipe: Connection, count: int, days: int) -> None:
    times = (_FIRST + number * days // count * _DAY for number in range(count))
    keys = sorted(new_location("docs", ".bin", milliseconds=time) for time in times)
    entries = [entry(key, number) for number, key in enumerate(keys)]

    class Listing(Handler):
        def do_GET(self) -> None:
            asked = self.asked()
            prefix = asked.get("prefix", "")
            after = asked.get("continuation-token") or asked.get("start-after", "")
            begin = max(bisect_left(keys, prefix), bisect_right(keys, after))
            end = bisect_right(keys, prefix + "\U0010ffff")
            stop = min(begin + PAGE, end)
            self.answer(listing(prefix, entries[begin:stop], keys[stop - 1] if stop < end else None))

    serve(pipe, Listing)
