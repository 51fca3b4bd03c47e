"""Bugs to plant in the library of one process, each of a kind that peers have: the matrix must catch them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO

from sqlalchemy import delete

from granite_storage import StoredObjectRef
from granite_storage.deletion import delete_objects
from granite_storage.orm import discarding, freeing
from granite_storage.orm.freeing import Freeing
from granite_storage.ownership import is_mark
from tests.crash.worlds import CrashWorld

__all__ = ["BUGS", "plant"]


def _deletes_before_the_commit(world: CrashWorld) -> None:
    add = Freeing.add

    def delete_now(self: Freeing, mapper: Any, field: Any, ref: StoredObjectRef, **options: Any) -> None:
        add(self, mapper, field, ref, **options)
        delete_objects(world.manager, [ref])

    Freeing.add = delete_now  # type: ignore[method-assign]


def _writes_no_outbox(world: CrashWorld) -> None:
    freeing.write_freed = lambda *args: None


def _removes_the_outbox_rows_first(world: CrashWorld) -> None:
    claim_rows = discarding.claim_rows

    def claim_and_remove(connection: Any, outbox: Any, **options: Any) -> Any:
        rows = list(claim_rows(connection, outbox, **options))
        connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
        connection.commit()
        return rows

    discarding.claim_rows = claim_and_remove


def _publishes_what_is_not_there_yet(world: CrashWorld) -> None:
    """A put returns while a part of the bytes is in a buffer of the process."""
    put_stream = world.backend.put_stream
    unwritten: list[BinaryIO] = []

    def put(*, key: str, stream: BinaryIO, **arguments: Any) -> StoredObjectRef:
        if is_mark(key):
            return put_stream(key=key, stream=stream, **arguments)
        ref: StoredObjectRef = put_stream(key=key, stream=_nothing(), **arguments)
        path = world.backend.root_dir / key
        file = os.fdopen(os.open(path, os.O_WRONLY), "wb", buffering=2**20)
        file.write(stream.read())
        unwritten.append(file)
        return ref

    world.backend.put_stream = put


def _writes_in_place(world: CrashWorld) -> None:
    """An object is visible under its name while it is being written."""
    put_stream = world.backend.put_stream

    def put(*, key: str, stream: BinaryIO, **arguments: Any) -> StoredObjectRef:
        if is_mark(key):
            return put_stream(key=key, stream=stream, **arguments)
        ref: StoredObjectRef = put_stream(key=key, stream=_nothing(), **arguments)
        with open(world.backend.root_dir / key, "wb", buffering=0) as file:
            while part := stream.read(1024):
                file.write(part)
        return ref

    world.backend.put_stream = put


def _stores_after_the_commit(world: CrashWorld) -> None:
    """The bytes travel once the row is durable."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    put_stream = world.backend.put_stream
    waiting: list[Callable[[], object]] = []

    def put(*, key: str, stream: BinaryIO, **arguments: Any) -> StoredObjectRef:
        if is_mark(key):
            return put_stream(key=key, stream=stream, **arguments)
        content = stream.read()
        waiting.append(lambda: world.backend.root_dir.joinpath(key).write_bytes(content))
        (world.backend.root_dir / key).parent.mkdir(parents=True, exist_ok=True)
        return StoredObjectRef("", "local", key, len(content), "")

    world.backend.put_stream = put
    event.listen(Session, "after_commit", lambda session: [write() for write in waiting])


def _nothing() -> Any:
    import io

    return io.BytesIO()


BUGS: dict[str, Callable[[CrashWorld], None]] = {
    "deletes before the commit": _deletes_before_the_commit,
    "writes no outbox": _writes_no_outbox,
    "removes the outbox rows first": _removes_the_outbox_rows_first,
    "publishes what is not there yet": _publishes_what_is_not_there_yet,
    "writes in place": _writes_in_place,
    "stores after the commit": _stores_after_the_commit,
}


def plant(name: str, world: CrashWorld) -> None:
    """Break the library of this process."""
    BUGS[name](world)
