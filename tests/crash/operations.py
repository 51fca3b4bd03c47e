"""What a process is about to do when it is killed: each operation touches two files, and says what it commits.

What an operation leaves in the database is :data:`~tests.crash.worlds.OLD` before its commit is durable, and its
``new`` state from then on; nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from granite_storage import Upload
from tests.crash.worlds import OLD, SIZE, CrashWorld, State, content

__all__ = ["OPERATIONS", "Operation", "Source"]


class Source:
    """A stream that cannot seek and gives a little at a time, as a socket; it tells when half of it was read.

    :param size: bytes.
    :param half_read: called once, before the read that passes the half.
    """

    def __init__(self, content: bytes, half_read: Callable[[], object]) -> None:
        self._left, self._half = content, len(content) // 2
        self._half_read = half_read
        self._step = max(2048, len(content) // 16)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        if len(self._left) <= self._half:
            self._half_read()
        size = self._step if size < 0 else min(size, self._step)
        taken, self._left = self._left[:size], self._left[size:]
        return taken


@dataclass(frozen=True)
class Doing:
    """What an operation is given.

    :param reached: tells that a step of the operation's own was reached.
    :param size: bytes of each new file.
    """

    world: CrashWorld
    session: Session
    reached: Callable[[str], object]
    size: int = SIZE

    def upload(self, title: str, version: str = "new") -> Upload:
        return Upload(Source(content(title, version, self.size), lambda: self.reached("mid-upload")))  # type: ignore[arg-type]

    def document(self, title: str) -> Any:
        return self.session.scalars(select(self.world.Document).filter_by(title=title)).one()


@dataclass(frozen=True)
class Operation:
    """One kind of work.

    :param stores: whether it uploads.
    :param frees: whether objects are deleted once it has committed.
    :param changes: the documents that the commit changes, and the version that each has then; None for no file, "gone".
    """

    name: str
    run: Callable[[Doing], object]
    changes: dict[str, str | None]
    stores: bool = True
    frees: bool = True

    @property
    def savepoint(self) -> bool:
        return "savepoint" in self.name

    def new(self, size: int = SIZE) -> State:
        """What is committed once the operation is durable."""
        state = dict(OLD)
        for title, version in self.changes.items():
            if version == "gone":
                del state[title]
            else:
                state[title] = content(title, version, size) if version else None
        return state


def _insert(doing: Doing) -> None:
    doing.session.add_all([doing.world.Document(title=title, report=doing.upload(title)) for title in ("c", "d")])


def _replace(doing: Doing) -> None:
    for title in ("a", "b"):
        doing.document(title).report = doing.upload(title)


def _clear(doing: Doing) -> None:
    for title in ("a", "b"):
        doing.document(title).report = None


def _delete(doing: Doing) -> None:
    for title in ("a", "b"):
        doing.session.delete(doing.document(title))


def _bulk_delete(doing: Doing) -> None:
    doing.session.execute(delete(doing.world.Document).where(doing.world.Document.title.in_(("a", "b"))))


def _released(doing: Doing) -> None:
    with doing.session.begin_nested():
        _replace(doing)
        doing.session.flush()
        doing.reached("inside the savepoint")


def _rolled_back(doing: Doing) -> None:
    a, b = doing.document("a"), doing.document("b")
    a.report = doing.upload("a")
    savepoint = doing.session.begin_nested()
    b.report = doing.upload("b", "lost")
    doing.session.add(doing.world.Document(title="c", report=doing.upload("c", "lost")))
    doing.session.flush()
    doing.reached("inside the savepoint")
    savepoint.rollback()


_BOTH_NEW: dict[str, str | None] = {"a": "new", "b": "new"}
_BOTH_GONE: dict[str, str | None] = {"a": "gone", "b": "gone"}

OPERATIONS = {
    one.name: one
    for one in (
        Operation("insert", _insert, {"c": "new", "d": "new"}, frees=False),
        Operation("replace", _replace, _BOTH_NEW),
        Operation("clear", _clear, {"a": None, "b": None}, stores=False),
        Operation("delete", _delete, _BOTH_GONE, stores=False),
        Operation("released savepoint", _released, _BOTH_NEW),
        Operation("rolled-back savepoint", _rolled_back, {"a": "new"}),
        Operation("bulk delete", _bulk_delete, _BOTH_GONE, stores=False),
    )
}
