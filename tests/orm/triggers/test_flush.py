"""With triggers the ORM writes no outbox of its own, and what it does ends as it does without them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, event, insert, update

from granite_storage import StoredObjectRef


@pytest.mark.parametrize("change", ["replace", "clear", "delete"])
def test_what_a_flush_frees_is_written_once(world, change):
    number = world.add(report=b"one")
    old = world.location(number)
    with world.session() as session:
        document = session.get_one(world.Document, number)
        if change == "delete":
            session.delete(document)
        else:
            document.report = b"two" if change == "replace" else None
        with world.statements() as sent:
            session.flush()
        assert world.freed(session.connection()) == [old]
        assert not any(statement.startswith("INSERT INTO granite_storage_outbox") for statement in sent)
        assert old in world.objects()
        session.commit()
    assert world.freed() == []
    assert world.contents() == ([b"two"] if change == "replace" else [])
    world.check()


def test_a_field_without_triggers_is_written_by_the_orm(world):
    number = world.add(report=b"one", draft=b"two")
    with world.session() as session:
        session.delete(session.get_one(world.Document, number))
        session.flush()
        sources = sorted(row.source for row in world.rows(session.connection()))
        assert sources == ["document.draft", "document.report"]
        session.commit()
    assert world.freed() == []
    world.check()


def test_what_was_stored_for_nothing_is_written_by_the_orm(world):
    """No row ever held it, so that no trigger can fire."""
    stored = []

    @event.listens_for(world.Document, "before_update")
    def replace(mapper: Any, connection: Any, document: Any) -> None:
        stored.append(document.report.location)
        document.report = b"thumbnail"

    number = world.add(report=b"one")
    old = world.location(number)
    with world.session() as session:
        session.get_one(world.Document, number).report = b"two"
        session.flush()
        assert world.freed(session.connection()) == sorted([old, *stored])
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"thumbnail"])


def test_what_two_flushes_of_a_transaction_free_is_written_once(world):
    number = world.add(report=b"one")
    places = [world.location(number)]
    with world.session() as session:
        document = session.get_one(world.Document, number)
        document.report = b"two"
        session.flush()
        places.append(document.report.location)
        document.report = b"three"
        session.flush()
        assert world.freed(session.connection()) == sorted(places)
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"three"])


def test_other_columns_of_a_changed_row_write_nothing(world):
    number = world.add(report=b"one")
    with world.session() as session:
        session.get_one(world.Document, number).title = "new"
        session.flush()
        assert world.freed(session.connection()) == []
        session.commit()
    world.check()


def test_a_rolled_back_flush_frees_nothing(world):
    number = world.add(report=b"one")
    with world.session() as session:
        session.delete(session.get_one(world.Document, number))
        session.flush()
        session.rollback()
    assert (world.freed(), world.contents()) == ([], [b"one"])
    world.check()


def test_a_rolled_back_savepoint_takes_the_rows_back(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    with world.session() as session:
        savepoint = session.begin_nested()
        session.get_one(world.Document, one).report = b"new"
        session.flush()
        savepoint.rollback()
        assert world.freed(session.connection()) == []
        session.delete(session.get_one(world.Document, two))
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"one"])
    world.check()


def test_a_released_savepoint_whose_transaction_is_rolled_back_frees_nothing(world):
    number = world.add(report=b"one")
    with world.session() as session:
        with session.begin_nested():
            session.get_one(world.Document, number).report = None
        session.rollback()
    assert (world.freed(), world.contents()) == ([], [b"one"])


def test_an_object_that_moves_to_another_row_is_not_free(world):
    number = world.add(report=b"one")
    location = world.location(number)
    with world.session() as session:
        old = session.get_one(world.Document, number)
        new = world.Document(report=old.report)
        session.add(new)
        session.delete(old)
        session.flush()
        assert world.freed(session.connection()) == []
        session.commit()
        assert new.report.location == location
    assert world.freed() == []
    world.check()


def test_objects_that_are_swapped_are_not_free(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    places = world.location(one), world.location(two)
    with world.session() as session:
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, two)
        first.report, second.report = second.report, first.report
        session.flush()
        assert world.freed(session.connection()) == []
        session.commit()
    assert (world.location(two), world.location(one)) == places
    assert world.freed() == []
    world.check()


def test_a_move_frees_what_it_replaces(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    replaced = world.location(two)
    with world.session() as session:
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, two)
        first.report, second.report = None, first.report
        session.flush()
        assert world.freed(session.connection()) == [replaced]
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"one"])
    world.check()


def test_a_move_in_a_savepoint_that_is_rolled_back_leaves_the_object_where_it_was(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    places = world.location(one), world.location(two)
    with world.session() as session:
        savepoint = session.begin_nested()
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, two)
        first.report, second.report = None, first.report
        session.flush()
        savepoint.rollback()
        assert world.freed(session.connection()) == []
        session.commit()
    assert (world.location(one), world.location(two)) == places
    assert world.freed() == []
    world.check()


def test_an_object_freed_before_the_savepoint_stays_free_when_a_move_in_it_is_rolled_back(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    with world.session() as session:
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, two)
        freed = second.report.location
        second.report = None
        session.flush()
        savepoint = session.begin_nested()
        first.report, second.report = None, first.report
        session.flush()
        savepoint.rollback()
        assert world.freed(session.connection()) == [freed]
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"one"])
    world.check()


def test_a_row_switch_frees_what_the_row_gives_up(world):
    """A deleted object and a new one of its key make one UPDATE."""
    number = world.add(report=b"one", scan=b"scan")
    places = [world.location(number), world.location(number, "scan")]
    with world.session() as session:
        session.delete(session.get_one(world.Document, number))
        session.add(world.Document(id=number, report=b"two", scan=None))
        session.flush()
        assert world.freed(session.connection()) == sorted(places)
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"two"])
    world.check()


def test_an_object_moves_away_from_a_row_that_is_switched(world):
    number, other = world.add(report=b"one"), world.add()
    location = world.location(number)
    with world.session() as session:
        old = session.get_one(world.Document, number)
        session.get_one(world.Document, other).report = old.report
        session.delete(old)
        session.add(world.Document(id=number, report=b"two"))
        session.flush()
        assert world.freed(session.connection()) == []
        session.commit()
    assert world.location(other) == location
    assert (world.freed(), world.contents()) == ([], [b"one", b"two"])
    world.check()


def test_bulk_statements_of_a_session_are_written_once(world):
    one, two = world.add(report=b"one"), world.add(report=b"two")
    places = sorted([world.location(one), world.location(two)])
    with world.session() as session:
        session.execute(delete(world.Document).where(world.Document.id == one))
        session.execute(update(world.Document).where(world.Document.id == two).values(report=None))
        assert world.freed(session.connection()) == places
        session.commit()
    assert world.named() == []


def test_what_a_core_statement_frees_stays_written_until_a_sweep(world):
    number = world.add(report=b"one")
    location = world.location(number)
    with world.engine.begin() as connection:
        connection.execute(delete(world.Document.__table__))
    assert world.freed() == [location]
    assert world.objects() == {location}


@pytest.mark.databases("sqlite", "postgresql")
def test_an_upsert_on_a_file_field_frees_the_old_object(world):
    if world.engine.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as upsert
    else:
        from sqlalchemy.dialects.postgresql import insert as upsert
    table = world.Document.__table__
    with world.engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "report": _ref("docs/a")})
        statement = upsert(table).values(id=1, report=_ref("docs/b"))
        connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_={"report": statement.excluded.report})
        )
        assert world.freed(connection) == ["docs/a"]


def _ref(location: str) -> StoredObjectRef:
    return StoredObjectRef("documents", "memory", location, 1, "")
