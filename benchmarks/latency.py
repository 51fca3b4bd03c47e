"""A proxy on loopback that adds latency to every HTTP request, as a server far away has it."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

__all__ = ["far_away"]

_CHUNK = 256 * 1024
_CONTINUE = b"HTTP/1.1 100"


@contextmanager
def far_away(endpoint: str, seconds: float) -> Iterator[str]:
    """The URL of a proxy, in a process of its own, for a server of plain HTTP/1.1.

    A request waits so long before it is passed on, once, however it is cut into packets and whether or not its body
    waits for ``100 Continue``. Requests on several connections wait side by side.

    :param endpoint: such as ``"http://127.0.0.1:9000"``.
    """
    server = urlsplit(endpoint)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, server.hostname, server.port or 80, seconds), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _run(pipe: Connection, host: str, port: int, seconds: float) -> None:
    asyncio.run(_serve(pipe, host, port, seconds))


async def _serve(pipe: Connection, host: str, port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(host, port)
        link = _Link(seconds)
        with suppress(OSError):
            await asyncio.gather(link.pass_requests(reader, requests), link.pass_answers(answers, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Link:
    """One connection: between requests until its client sends, and again once the server has answered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._between = True

    async def pass_requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            if self._between:
                self._between = False
                await asyncio.sleep(self._seconds)
            target.write(data)
            await target.drain()
        target.close()

    async def pass_answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            self._between = not data.startswith(_CONTINUE)
            target.write(data)
            await target.drain()
        target.close()
