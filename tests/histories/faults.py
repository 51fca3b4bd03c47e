"""What goes wrong in a history: uploads and deletes that fail, and answers of the database that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from granite_storage.exceptions import BackendError
from tests.orm.worlds import FaultyBackend

__all__ = ["delete_fails", "lost_commit", "put_fails"]


def delete_fails(location: str) -> None:
    """What ``FaultyBackend.before_delete`` is while the storage refuses deletes."""
    raise BackendError(f"no deletes today: {location}")


@contextmanager
def put_fails(backend: FaultyBackend) -> Iterator[None]:
    """Let the next put fail."""

    def fail(location: str) -> None:
        backend.before_put = lambda key: None
        raise BackendError(f"the storage is down: {location}")

    backend.before_put = fail
    try:
        yield
    finally:
        backend.before_put = lambda key: None


@contextmanager
def lost_commit(engine: Engine, *, durable: bool, after: int = 0) -> Iterator[None]:
    """Let one COMMIT raise, after or instead of being carried out, as a cut connection does.

    :param after: how many go through before it.
    """
    do_commit = engine.dialect.do_commit
    left = after

    def broken(connection: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            do_commit(connection)
            return
        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        if durable:
            do_commit(connection)
        else:
            engine.dialect.do_rollback(connection)  # as a server does when it finds the connection gone
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    engine.dialect.do_commit = broken  # type: ignore[method-assign]
    try:
        yield
    finally:
        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
