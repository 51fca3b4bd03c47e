"""What a flush stores is stored in groups, where the backend has them, and is durable before any row is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine

from granite_storage import StoredObjectRef
from granite_storage.backends.base import Ability
from granite_storage.exceptions import BackendError
from granite_storage.ownership import is_mark
from tests.orm.worlds import FaultyBackend, World

_grouped: ContextVar[bool] = ContextVar("grouped", default=False)


class _Grouping(FaultyBackend):
    """Tells what happens in which order."""

    abilities = FaultyBackend.abilities | {Ability.GROUP}

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.at_end: Callable[[], object] = lambda: None

    @contextmanager
    def group(self) -> Iterator[None]:
        self.seen.append("begin")
        before = _grouped.set(True)
        try:
            yield
            self.at_end()
        finally:
            _grouped.reset(before)
            self.seen.append("end")

    def put_stream(self, **arguments: Any) -> StoredObjectRef:
        if not is_mark(arguments["key"]):
            self.seen.append("put" if _grouped.get() else "put alone")
        return super().put_stream(**arguments)

    def copy(self, ref: StoredObjectRef, *, key: str, content_type: str | None = None) -> None:
        self.seen.append("copy" if _grouped.get() else "copy alone")
        super().copy(ref, key=key, content_type=content_type)


def _raiser(error: Exception) -> Callable[..., NoReturn]:
    def fail(*args: Any) -> NoReturn:
        raise error

    return fail


@pytest.fixture
def backend() -> _Grouping:
    return _Grouping()


@pytest.fixture
def world(engine: Engine, backend: _Grouping) -> Iterator[World]:
    world = World(engine)
    world.backend = backend
    with world.manager.override(backends={"memory": backend}):
        yield world


def test_the_uploads_of_a_flush_are_one_group_which_ends_before_any_sql(world: World, backend: _Grouping) -> None:
    with world.session() as session:
        session.connection()
        with world.statements() as sent:
            session.add_all(world.Document(report=b"report", cover=b"cover") for _ in range(5))
            backend.at_end = lambda: backend.seen.append(f"{len(sent)} statements")
            session.flush()
        assert backend.seen == ["begin", *["put"] * 10, "0 statements", "end"]
        session.commit()
    world.check()


def test_copies_are_grouped_too(world: World, backend: _Grouping) -> None:
    world.add(report=b"abc")
    with world.session() as session:
        first = session.query(world.Document).one()
        backend.seen.clear()
        session.add_all(world.Document(report=first.report) for _ in range(2))
        session.commit()
    assert backend.seen == ["begin", "copy", "copy", "end"]
    world.check()


def test_a_group_whose_end_fails_writes_no_row_and_leaves_no_object(world: World, backend: _Grouping) -> None:
    backend.at_end = _raiser(BackendError("the disk is gone"))
    with world.session() as session:
        documents = [world.Document(title=str(number), report=b"abc") for number in range(3)]
        session.add_all(documents)
        with world.statements() as sent, pytest.raises(BackendError, match="the disk is gone"):
            session.flush()
        assert not any("INSERT" in statement for statement in sent)
        session.rollback()
        assert world.objects() == set()
        backend.at_end = lambda: None
        session.add_all(documents)
        session.commit()
    assert world.contents() == [b"abc"] * 3
    world.check()


def test_an_upload_that_fails_comes_out_of_its_group_as_it_is(world: World, backend: _Grouping) -> None:
    error = BackendError("no room")
    backend.before_put, backend.at_end = _raiser(error), _raiser(BackendError("never seen"))
    with world.session() as session:
        session.add(world.Document(report=b"abc"))
        with pytest.raises(BackendError) as raised:
            session.flush()
        assert raised.value is error
    assert backend.seen == ["begin", "put", "end"]


def test_a_backend_without_groups_is_not_asked_for_one(world: World, backend: _Grouping) -> None:
    backend.abilities = FaultyBackend.abilities  # type: ignore[misc]
    world.add(report=b"abc")
    assert backend.seen == ["put alone"]
