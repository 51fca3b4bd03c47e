"""A process that has everything imported and forks a child for each case, since an import takes longer than a case.

It has no engine and no thread, so that a fork of it is as good as a new process. It is run as a module, reads cases
from its standard input, one JSON line each, and answers each with how the child ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.crash.cases import Case, run

__all__ = ["Ended", "Zygote"]

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT = 120  # seconds until a child that hangs ends by SIGALRM


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    :param signal: the signal that ended it; None if it came to its end.
    :param code: its exit code; None if a signal ended it.
    :param told: what it wrote to its standard output and error.
    """

    signal: int | None
    code: int | None
    told: str

    @property
    def killed(self) -> bool:
        return self.signal == signal.SIGKILL


class Zygote:
    """The process, seen from the test's.

    :param folder: for its log.
    :param environment: variables that it has beside this process's.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._errors = (folder / "zygote.log").open("wb+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            env={**os.environ, **environment, "PYTHONPATH": str(_ROOT)},
            text=True,
        )

    def run(self, case: Case) -> Ended:
        """Run a case in a child process and wait for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(case)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the zygote is gone: {Path(self._errors.name).read_text()}"
        return Ended(**json.loads(answer))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._errors.close()


def main() -> None:
    """Serve cases until the standard input ends."""
    _import_all()
    gc.freeze()
    with tempfile.TemporaryFile() as log:
        for line in sys.stdin:
            case = Case(**json.loads(line))
            log.seek(0)
            log.truncate()
            child = os.fork()
            if child == 0:
                _be_child(case, log.fileno())
            _, status = os.waitpid(child, 0)
            killed = os.WIFSIGNALED(status)
            log.seek(0)
            ended = Ended(
                os.WTERMSIG(status) if killed else None,
                None if killed else os.WEXITSTATUS(status),
                log.read().decode(errors="replace"),
            )
            sys.stdout.write(json.dumps(asdict(ended)) + "\n")
            sys.stdout.flush()


def _be_child(case: Case, log: int) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.alarm(_LIMIT)
        run(case)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # nothing of the zygote's own is flushed or closed twice


def _import_all() -> Any:
    """What a case imports late; each answers for itself."""
    import boto3
    import psycopg
    import pymysql
    import s3transfer.manager
    import sqlalchemy.dialects.mysql.pymysql
    import sqlalchemy.dialects.postgresql.psycopg
    import sqlalchemy.dialects.sqlite.pysqlite

    import granite_storage.backends.local
    import granite_storage.backends.s3
    import granite_storage.integrations.sqlalchemy
    import granite_storage.maintenance.move.run
    import granite_storage.maintenance.sweep

    return boto3, psycopg, pymysql, s3transfer, sqlalchemy, granite_storage


if __name__ == "__main__":
    main()
