"""The steps at which a process is killed, and how each is noticed: at seams that any program may use.

Those are the methods of the backend, events of sessions and engines, and the dialect's ``do_commit``; nothing in the
library knows of any of this. A step is ``(world, die) -> None``: it arranges that ``die`` is called when it is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from granite_storage.ownership import is_mark
from tests.crash.operations import Operation
from tests.crash.worlds import CrashWorld

__all__ = ["OWN_STEPS", "STEPS", "SWEEP_STEPS", "arrange", "is_durable", "steps_of", "sweep_steps_of"]

Die = Callable[[], object]

OWN_STEPS = ("mid-upload", "inside the savepoint", "after the flush, before the commit")
"""Steps that the operation itself tells of."""


def _before_upload(world: CrashWorld, die: Die) -> None:
    def before(*args: Any, **arguments: Any) -> None:
        if not is_mark(arguments["key"]):
            die()

    _around(world.backend, "put_stream", before=before)


def _before_sql(world: CrashWorld, die: Die) -> None:
    def before(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(("INSERT INTO document", "UPDATE document", "DELETE FROM document")):
            die()

    event.listen(world.engine, "before_cursor_execute", before)


def _before_durable(world: CrashWorld, die: Die) -> None:
    event.listen(world.engine, "commit", lambda connection: die())


def _once_durable(world: CrashWorld, die: Die) -> None:
    _around(world.engine.dialect, "do_commit", after=lambda *args, **arguments: die())


def _after_commit(world: CrashWorld, die: Die) -> None:
    from sqlalchemy.orm import Session

    def after(session: Session) -> None:
        if session.get_nested_transaction() is None:
            die()

    event.listen(Session, "after_commit", after)


def _before_delete(world: CrashWorld, die: Die) -> None:
    _around(world.backend, "delete_many", before=lambda *args, **arguments: die())


def _mid_delete(world: CrashWorld, die: Die) -> None:
    delete_many = world.backend.delete_many

    def half(refs: Any) -> Any:
        if len(refs) == 1:  # there is no middle of it
            return delete_many(refs)
        delete_many(refs[:1])
        return die()

    world.backend.delete_many = half


def _after_delete(world: CrashWorld, die: Die) -> None:
    _around(world.backend, "delete_many", after=lambda *args, **arguments: die())


def _rows_removed(world: CrashWorld, die: Die) -> None:
    """The DELETE of the outbox rows was sent, and is not committed."""

    def after(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE FROM granite_storage_outbox"):
            die()

    event.listen(world.engine, "after_cursor_execute", after)


def _before_watermark(world: CrashWorld, die: Die) -> None:
    def before(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE granite_storage_fields"):
            die()

    event.listen(world.engine, "before_cursor_execute", before)


STEPS: dict[str, Callable[[CrashWorld, Die], None]] = {
    "before the upload": _before_upload,
    "after the upload, before the flush's SQL": _before_sql,
    "inside the commit, before it is durable": _before_durable,
    "inside the commit, once it is durable": _once_durable,
    "after the commit": _after_commit,
    "before the delete": _before_delete,
    "mid-delete": _mid_delete,
    "between the delete and the removal of the outbox rows": _after_delete,
    "before the removal of the outbox rows is durable": _rows_removed,
}
"""Steps of a transaction, in their order."""

SWEEP_STEPS: dict[str, Callable[[CrashWorld, Die], None]] = {
    "before the delete": _before_delete,
    "mid-delete": _mid_delete,
    "between the delete and what follows": _after_delete,
    "before the watermark": _before_watermark,
}
"""Steps of a sweep."""

_ORDER = (
    "before the upload",
    "mid-upload",
    "after the upload, before the flush's SQL",
    "inside the savepoint",
    "after the flush, before the commit",
    "inside the commit, before it is durable",
    "inside the commit, once it is durable",
    "after the commit",
    "before the delete",
    "mid-delete",
    "between the delete and the removal of the outbox rows",
    "before the removal of the outbox rows is durable",
)


def steps_of(operation: Operation) -> list[str]:
    """The steps that an operation comes to, in their order."""
    absent: set[str] = set()
    if not operation.stores:
        absent |= {"before the upload", "mid-upload"}
    if not operation.frees:
        absent |= set(_ORDER[_ORDER.index("before the delete") :])
    if not operation.savepoint:
        absent.add("inside the savepoint")
    return [step for step in _ORDER if step not in absent]


def sweep_steps_of(operation: Operation) -> list[tuple[str, str]]:
    """Where an operation is killed, and then, after what it left, a sweep: pairs of steps.

    A sweep does not know which operation left what: one has all steps, the others the one in the middle.
    """
    left = ["after the commit"] * operation.frees + ["after the flush, before the commit"] * operation.stores
    steps = list(SWEEP_STEPS) if operation.name == "replace" else ["mid-delete"]
    return [(step, in_sweep) for step in left for in_sweep in steps]


def is_durable(step: str) -> bool:
    """Whether the commit is durable when the step is reached."""
    return _ORDER.index(step) >= _ORDER.index("inside the commit, once it is durable")


def arrange(world: CrashWorld, step: str | None, die: Die, *, sweeping: bool = False) -> Callable[[str], object]:
    """Arrange that ``die`` is called at a step; gives what an operation tells its own steps to."""
    if step is not None and step not in OWN_STEPS:
        (SWEEP_STEPS if sweeping else STEPS)[step](world, die)

    def reached(name: str) -> None:
        if name == step:
            if name == "mid-upload" and not hasattr(world.backend, "root_dir"):
                _wait_for_parts(world)
            die()

    return reached


def _wait_for_parts(world: CrashWorld) -> None:
    """Parts travel in threads of their own: be sure that the server knows of the upload, and has a part of it."""
    client, bucket = world.s3_client(), world.backend.bucket
    for _ in range(3000):
        for found in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            if client.list_parts(Bucket=bucket, Key=found["Key"], UploadId=found["UploadId"]).get("Parts"):
                return
        time.sleep(0.01)
    raise AssertionError("no part of the upload has arrived")


def _around(target: Any, name: str, *, before: Any = None, after: Any = None) -> None:
    original = getattr(target, name)

    def call(*args: Any, **arguments: Any) -> Any:
        if before is not None:
            before(*args, **arguments)
        result = original(*args, **arguments)
        if after is not None:
            after(*args, **arguments)
        return result

    setattr(target, name, call)
