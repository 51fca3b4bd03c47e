"""The world of a move: the documents' files go to another policy, of another backend or of the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event, select

from granite_storage import StorageManager, StoragePolicy, StoredObjectRef
from granite_storage.locations import INCOMING
from granite_storage.move import MoveReport, StorageMover
from granite_storage.ownership import is_mark
from tests.crash.steps import STEPS
from tests.crash.worlds import CrashWorld

__all__ = ["MOVES", "MOVE_STEPS", "MoveWorld", "arrange_move"]

MOVES = {"move to another backend": "shelf", "move inside a backend": "store"}
"""Each kind of move, and the backend that it goes to."""


class MoveWorld(CrashWorld):
    """All three documents are moved, in one batch."""

    def __init__(self, database: str, storage: str, kind: str) -> None:
        self.kind = kind
        super().__init__(database, storage)
        self.target: Any = self.manager.backends[MOVES[kind]]

    def _manager(self) -> StorageManager:
        backends = {"store": self.storage, "shelf": self.storage.replace("/stored", "/shelf")}
        policies = {"documents": "store", "archive": MOVES[self.kind]}
        return StorageManager(backends, {name: StoragePolicy(name, backend) for name, backend in policies.items()})

    def move(self) -> MoveReport:
        return StorageMover(self.manager, engine=self.engine).move("documents", to="archive")

    def moved(self) -> int:
        """How many rows name an object of the archive."""
        with self.session() as session:
            files = session.scalars(select(self.Document.report)).all()
        return sum(file is not None and file.storage_key == "archive" for file in files)

    def objects(self) -> set[str]:
        return {one for key in ("store", "shelf") for one in self._at(key)}

    def stored(self, location: str) -> bytes:
        (key,) = (key for key in ("store", "shelf") if location in self._at(key))
        return self.manager.backends[key].get(StoredObjectRef("", key, location, 0, ""))

    def _at(self, key: str) -> set[str]:
        return {one for one in self.manager.backends[key].iter_locations() if not is_mark(one)}

    def unfinished(self) -> list[str]:
        backends: Any = self.manager.backends.values()
        return [path.name for backend in backends for path in (Path(backend.root_dir) / INCOMING).iterdir()]


Die = Callable[[], object]


def _copies(world: MoveWorld, die: Die, *, after: int | None) -> None:
    """Die before the first copy, or after so many."""
    name = "put_stream" if world.target is not world.backend else "copy"
    original = getattr(world.target, name)
    made: list[str] = []

    def copy(*args: Any, key: str, **arguments: Any) -> Any:
        if is_mark(key):
            return original(*args, key=key, **arguments)
        if after is None:
            die()
        result = original(*args, key=key, **arguments)
        made.append(key)
        if len(made) == after:
            die()
        return result

    setattr(world.target, name, copy)


def _inside_a_copy(world: MoveWorld, die: Die) -> None:
    """Half of a file was read, or all of it, but nothing is published yet."""
    import granite_storage.backends.local as local

    name = "copy_stream" if world.target is not world.backend else "copy_file"
    original = getattr(local, name)

    def half(*args: Any, **arguments: Any) -> Any:
        original(*args, **arguments)
        return die()

    setattr(local, name, half)


def _before_statement(text: str, world: MoveWorld, die: Die) -> None:
    def before(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(text):
            die()

    event.listen(world.engine, "before_cursor_execute", before)


def _at_the_switch(step: str, world: MoveWorld, die: Die) -> None:
    """A step of the transaction that switches rows, or of what follows it; one before makes the database's id."""
    armed: list[str] = []

    def arm(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE document") and not armed:
            armed.append(step)
            STEPS[step](world, die)

    event.listen(world.engine, "before_cursor_execute", arm)


MOVE_STEPS: dict[str, Callable[[MoveWorld, Die], None]] = {
    "before a copy": partial(_copies, after=None),
    "inside a copy": _inside_a_copy,
    "after one copy of three": partial(_copies, after=1),
    "after the copies, before the switch": partial(_before_statement, "UPDATE document"),
    "after the switch, before the outbox": partial(_before_statement, "INSERT INTO granite_storage_outbox"),
    **{
        step: partial(_at_the_switch, step)
        for step in (
            "inside the commit, before it is durable",
            "inside the commit, once it is durable",
            "before the delete",
            "mid-delete",
            "between the delete and the removal of the outbox rows",
            "before the removal of the outbox rows is durable",
        )
    },
}
"""Where a move is killed, in the order in which it comes there."""


def arrange_move(world: MoveWorld, step: str, die: Die) -> None:
    """Arrange that ``die`` is called at a step."""
    MOVE_STEPS[step](world, die)
