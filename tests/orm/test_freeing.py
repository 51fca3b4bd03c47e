"""Freeing: what a flush takes out of rows is collected, and written at once."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, inspect

from granite_storage.orm.fields import file_fields
from granite_storage.orm.freeing import Freeing
from tests.orm.outboxes import freed, freed_by
from tests.orm.worlds import World


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def test_what_was_added_is_written_with_one_insert(world: World) -> None:
    refs = [world.manager.store("documents", bytes(size)).ref for size in (1, 2, 3)]
    mapper = inspect(world.Document)
    field = next(one for one in file_fields(mapper) if one.key == "scan")
    with world.session() as session:
        freeing = Freeing(session)
        for ref in refs:
            freeing.add(mapper, field, ref)
        assert freed_by(world, session) == []
        with world.statements() as sent:
            freeing.write()
        assert [statement.split()[:3] for statement in sent] == [["INSERT", "INTO", "granite_storage_outbox"]]
        assert [(row.size, row.source) for row in freed_by(world, session)] == [
            (1, "document.scan"),
            (2, "document.scan"),
            (3, "document.scan"),
        ]
        session.commit()
    assert freed(world) == []


def test_nothing_added_writes_nothing(world: World) -> None:
    with world.session() as session, world.statements() as sent:
        Freeing(session).write()
    assert sent == []


def test_what_was_stored_for_a_row_that_does_not_hold_it_is_freed_too(world: World) -> None:
    from sqlalchemy import event

    with world.session() as session:
        document = world.Document(title="a", report=b"draft")
        session.add(document)

        def replace(mapper: object, connection: object, target: object) -> None:
            document.report = b"final"

        event.listen(world.Document, "before_insert", replace)
        session.flush()
        event.remove(world.Document, "before_insert", replace)
        rows = [(row.size, row.source) for row in freed_by(world, session)]
        assert rows == [(5, "document.report")]
        session.commit()
    assert world.contents() == [b"final"]
    assert freed(world) == []


def test_what_moves_to_another_row_is_not_freed(world: World) -> None:
    first, second = world.add(report=b"first"), world.add(report=b"second")
    with world.session() as session:
        one, two = (session.get_one(world.Document, key) for key in (first, second))
        one.report, two.report = two.report, None
        session.flush()
        assert [row.size for row in freed_by(world, session)] == [5]
        session.commit()
    assert world.contents() == [b"second"]
    world.check()
