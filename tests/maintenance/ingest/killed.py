"""A process that converts, and is killed at a step: ``python -m tests.maintenance.ingest.killed URL STORE WAY STEP``.

The steps are seams that any program may use: methods of the backend, events of the engine, the dialect's ``do_commit``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from granite_storage.ownership import is_mark
from tests.databases import make_engine
from tests.maintenance.ingest.archives import Archive

__all__ = ["STEPS", "WAYS"]

STEPS = (
    "after the first batch, mid-upload",
    "before a row is written",
    "between two rows",
    "before the commit",
    "once the commit is durable",
)
WAYS = ("up", "back")


def main(url: str, store: str, way: str, step: str) -> None:
    archive = Archive(make_engine(url), Path(store))
    _arrange(archive, step)
    if way == "up":
        archive.ingest("body", batch_size=2)
    else:
        archive.put_back("body", batch_size=2)


def _arrange(archive: Archive, step: str) -> None:
    written = commits = puts = 0

    def before(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        nonlocal written
        if statement.startswith("UPDATE document"):
            written += 1
            if written == {"before a row is written": 1, "between two rows": 4}.get(step):
                _die()

    def put(**arguments: Any) -> Any:
        nonlocal puts
        puts += not is_mark(arguments["key"])
        if puts == 3 and step == "after the first batch, mid-upload":
            arguments["stream"].read(2)
            _die()
        return stored(**arguments)

    def commit(*arguments: Any) -> None:
        nonlocal commits
        if not written:
            return committed(*arguments)
        commits += 1
        if commits == 1 and step == "before the commit":
            _die()
        committed(*arguments)
        if commits == 1 and step == "once the commit is durable":
            _die()
        return None

    stored, archive.backend.put_stream = archive.backend.put_stream, put
    dialect: Any = archive.engine.dialect
    committed, dialect.do_commit = dialect.do_commit, commit
    event.listen(archive.engine, "before_cursor_execute", before)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # in a thread: the process goes at once


if __name__ == "__main__":
    main(*sys.argv[1:])
