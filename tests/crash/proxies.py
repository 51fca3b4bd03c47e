"""A TCP proxy before a database that loses what a network may lose: a COMMIT, its answer, every connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

__all__ = ["Loss", "Proxy", "proxy"]


class Loss(Enum):
    """What becomes of the next COMMIT."""

    NOTHING = "nothing is lost"
    ANSWER = "its answer is lost"
    COMMIT = "it is lost"


class Proxy:
    """Forwards connections to a server.

    The COMMIT of both protocols is text, ``Q....COMMIT\\0`` (PostgreSQL) and ``....\\x03COMMIT`` (MariaDB), in a packet
    that a client sends by itself and waits for. The server's first answer after it says that it is done.
    """

    def __init__(self, host: str, port: int) -> None:
        self.loss = Loss.NOTHING
        self.lost = 0
        self._server = (host, port)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._up = threading.Event()
        self._up.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """The server is gone: all connections end, and new ones are closed at once."""
        self._up.clear()
        for pair in self._pairs:
            _end(*pair)
        self._pairs = []

    def start(self) -> None:
        """It is back."""
        self._up.set()

    def close(self) -> None:
        self.stop()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._up.is_set():
                client.close()
                continue
            server = socket.create_connection(self._server)
            self._pairs.append((client, server))
            cutting = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, cutting), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server, cutting), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.loss is not Loss.NOTHING:
                    loss, self.loss = self.loss, Loss.NOTHING
                    self.lost += 1
                    if loss is Loss.COMMIT:
                        break
                    cutting.set()
                server.sendall(data)
        if not cutting.is_set():
            _end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if cutting.is_set():
                    break
                client.sendall(data)
        _end(client, server)


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before a server, for the length of a ``with`` block."""
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
