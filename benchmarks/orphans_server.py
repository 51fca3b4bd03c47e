"""A stand-in for S3 with millions of objects: it lists and deletes them, keeps a few small ones, and counts requests.

Nothing is held of the millions: the key of an object tells its number. It cannot give their bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from urllib.parse import unquote, urlsplit

from benchmarks.garbage import location
from benchmarks.listing_server import PAGE, Handler, entry, listing, serve, serving

__all__ = ["BUCKET", "orphans_server"]

BUCKET = "bucket"
_SIZE = 1000
_KEY = re.compile(r"<Key>([^<]*)</Key>")
_NUMBER = re.compile(r"/([0-9a-f]{8})-")


def orphans_server(count: int) -> AbstractContextManager[str]:
    """The URL of a server, in a process of its own, whose one bucket has ``count`` objects.

    ``GET /counts`` tells in JSON the requests since the last ``POST /reset``, by kind, and how many objects were
    deleted; the reset brings them back.
    """
    return serving(_serve, count)


def _serve(pipe: Connection, count: int) -> None:
    small: dict[str, bytes] = {}
    gone: set[int] = set()
    requests: Counter[str] = Counter()

    class Store(Handler):
        def do_GET(self) -> None:
            asked = self.asked()
            if self.path == "/counts":
                self.answer(json.dumps({**requests, "deleted": len(gone)}))
            elif "uploads" in asked:
                requests["list multipart uploads"] += 1
                self.answer("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
            elif "list-type" in asked:
                self._list(asked.get("prefix", ""), asked.get("continuation-token") or asked.get("start-after", ""))
            else:
                self.do_HEAD()

        def do_HEAD(self) -> None:
            requests["other"] += 1
            found = small.get(self._key())
            if found is None:
                self.answer("<Error><Code>NoSuchKey</Code></Error>", 404)
            else:
                self.answer(found.decode())

        def _list(self, prefix: str, after: str) -> None:
            first = location(0)
            if not first.startswith(prefix) and not prefix.startswith(first[:6]):
                requests["other"] += 1
                self.answer(listing(prefix, [entry(key, 1) for key in sorted(small) if key.startswith(prefix)], None))
                return
            requests["list"] += 1
            found = _NUMBER.search(after)
            begin = 0 if found is None else int(found[1], 16) + 1
            stop = min(begin + PAGE, count)
            entries = [entry(location(number), _SIZE) for number in range(begin, stop) if number not in gone]
            self.answer(listing(prefix, entries, location(stop - 1) if stop < count else None))

        def do_PUT(self) -> None:
            requests["other"] += 1
            small[self._key()] = self._body()
            self.answer()

        def do_POST(self) -> None:
            body = self._body().decode()
            if self.path == "/reset":
                gone.clear()
                requests.clear()
                self.answer()
                return
            requests["delete"] += 1
            keys = _KEY.findall(body)
            gone.update(int(found[1], 16) for found in map(_NUMBER.search, keys) if found is not None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self.answer(f"<DeleteResult>{deleted}</DeleteResult>")

        def _key(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    serve(pipe, Store)
