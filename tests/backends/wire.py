"""A TCP proxy on loopback that counts what really goes over the wire, and can hold it up or cut it off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Wire", "wire_to"]

_CHUNK = 64 * 1024


class Wire:
    """Forwards connections to a server. What a client asked for and did not read counts as well, once it is sent."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = 0
        """Bytes that clients were sent."""
        self.asked = 0
        """How often a client sent something."""
        self.open = 0
        """Connections of clients that are open."""
        self.connections = 0
        """Connections of clients that there were."""
        self.flowing = threading.Event()
        """While it is not set, nothing is sent to clients."""
        self.flowing.set()
        self._cut_at: list[int] = []
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self, *at: int) -> None:
        """End a connection, the next that gets so far, after so many bytes to the client; once for each number."""
        self._cut_at = [self.received + count for count in at]

    @property
    def cuts_left(self) -> int:
        """How many cuts nobody has met yet."""
        return len(self._cut_at)

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition on what is counted here comes true, within half a minute."""
        with self._changed:
            return self._changed.wait_for(condition, 30)

    def close(self) -> None:
        self.flowing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connect, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            self._count(open=1, connections=1)
            back = threading.Thread(target=_forward, args=(server, client, self._sent), daemon=True)
            back.start()
            _forward(client, server, self._asked)
            self._count(open=-1)
            back.join()

    def _asked(self, count: int) -> bool:
        self._count(asked=1)
        return True

    def _sent(self, count: int) -> bool:
        self.flowing.wait()
        self._count(received=count)
        with self._changed:
            if self._cut_at and self.received >= self._cut_at[0]:
                del self._cut_at[0]
                return False
        return True

    def _count(self, received: int = 0, asked: int = 0, open: int = 0, connections: int = 0) -> None:
        with self._changed:
            self.received += received
            self.asked += asked
            self.open += open
            self.connections += connections
            self._changed.notify_all()


def _forward(source: socket.socket, target: socket.socket, before: Callable[[int], bool]) -> None:
    with suppress(OSError):
        while (data := source.recv(_CHUNK)) and before(len(data)):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(server: str) -> Iterator[Wire]:
    """A wire to the server at an HTTP URL."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()
