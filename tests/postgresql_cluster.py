"""A PostgreSQL server of a test's own, for settings that need a restart: in a temporary folder, on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL

__all__ = ["postgresql_cluster"]


@contextmanager
def postgresql_cluster(**settings: object) -> Iterator[URL]:
    """Make a cluster and start its server; it is stopped and removed at the end. About two seconds.

    :param settings: of the server, such as ``max_prepared_transactions=10``.
    """
    folder = tempfile.mkdtemp(prefix="granite-postgresql-")
    as_whom: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_whom = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    data = f"{folder}/data"

    def run(program: str, *arguments: str) -> None:
        command = [str(_programs() / program), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **as_whom)

    try:
        run("initdb", "--pgdata", data, "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8")
        given = " ".join(f"-c {name}={value}" for name, value in {**options, **settings}.items())
        run("pg_ctl", "--pgdata", data, "--wait", "--log", f"{folder}/log", "--options", given, "start")
        try:
            yield URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres")
        finally:
            run("pg_ctl", "--pgdata", data, "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """Where initdb is: on the path, or where Debian puts each version's, the latest first."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name))
    assert versions, "initdb is not installed: these tests start a PostgreSQL server with settings of their own"
    return versions[-1]
