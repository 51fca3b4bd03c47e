"""A server that answers ListObjectsV2 and nothing else, from answers that are made beforehand.

Listing 200 000 keys from a real server measures that server: those at hand give 300 to 3 000 keys/s. This one costs
next to nothing, so that what is left is the clients. It does what Amazon's does: pages of a thousand in byte order,
``prefix``, ``start-after``, ``continuation-token`` and ``encoding-type=url``.
"""

from __future__ import annotations

import multiprocessing
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

from granite_storage.locations import new_location

__all__ = ["listing_server"]

_PAGE = 1000
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
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, count, days), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, count: int, days: int) -> None:
    times = (_FIRST + number * days // count * _DAY for number in range(count))
    keys = sorted(new_location("docs", ".bin", milliseconds=time) for time in times)
    entries = [_ENTRY.format(key, number % 1000, number) for number, key in enumerate(keys)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            prefix = asked.get("prefix", "")
            after = asked.get("continuation-token") or asked.get("start-after", "")
            begin = max(bisect_left(keys, prefix), bisect_right(keys, after))
            end = bisect_right(keys, prefix + "\U0010ffff")
            page = keys[begin : min(begin + _PAGE, end)]
            more = begin + len(page) < end
            token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
            found = "".join(entries[begin : begin + len(page)])
            body = _BODY.format(prefix, len(page), "true" if more else "false", token, found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    Handler.wbufsize = -1  # one segment for headers and body
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pipe.send(server.server_address[1])
    server.serve_forever()
