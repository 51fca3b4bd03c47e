"""Whether the triggers stand is asked of the database, once an engine; where they are missing the ORM writes."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import Engine, text

from granite_storage.orm.triggers import create_triggers, drop_triggers, triggers_stand
from tests.orm.triggers.worlds import TriggerWorld

CATALOGS = ("sqlite_master", "pg_trigger", "information_schema.triggers")


def without_triggers(world: TriggerWorld) -> None:
    """As in a database whose tables were there before the triggers were declared."""
    with world.engine.begin() as connection:
        drop_triggers(connection, world.metadata)


def test_they_stand_where_they_were_created(world):
    with world.engine.connect() as connection:
        columns = world.Document.__table__.c
        assert triggers_stand(connection, columns.report)
        assert triggers_stand(connection, columns.scan)
        assert not triggers_stand(connection, columns.draft)


def test_without_them_the_orm_writes_the_outbox_and_one_warning_says_how_to_make_them(world, caplog):
    without_triggers(world)
    numbers = [world.add(report=b"one"), world.add(report=b"two")]
    with caplog.at_level(logging.WARNING, "granite_storage"):
        for number in numbers:
            location = world.location(number)
            with world.session() as session:
                session.get_one(world.Document, number).report = None
                session.flush()
                assert world.freed(session.connection()) == [location]
                session.commit()
    assert world.contents() == world.freed() == []
    (message,) = caplog.messages
    assert "file field document.report is declared with triggers" in message
    assert "create_triggers(connection, table)" in message


def test_a_move_without_them_works(world):
    without_triggers(world)
    one, two = world.add(report=b"one"), world.add()
    with world.session() as session:
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, two)
        first.report, second.report = None, first.report
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"one"])
    world.check()


def test_the_catalog_is_asked_once_an_engine_and_field(world):
    number = world.add(report=b"one")
    with world.statements() as sent, world.session() as session:
        for content in (b"two", b"three"):
            session.get_one(world.Document, number).report = content
            session.commit()
    assert sum(any(catalog in statement for catalog in CATALOGS) for statement in sent) == 1


def test_each_engine_is_asked_for_itself(world, database):
    other = database.engine()
    try:
        with world.engine.connect() as connection:
            assert triggers_stand(connection, world.Document.__table__.c.report)
        without_triggers(world)
        with other.connect() as connection:
            assert not triggers_stand(connection, world.Document.__table__.c.report)
    finally:
        other.dispose()


def test_triggers_that_are_made_later_are_noticed(world):
    without_triggers(world)
    column = world.Document.__table__.c.report
    with world.engine.begin() as connection:
        assert not triggers_stand(connection, column)
        create_triggers(connection, world.Document.__table__)
        assert triggers_stand(connection, column)


@pytest.mark.parametrize("missing", ["delete", "update"])
def test_half_of_them_do_not_stand(world, missing):
    on = " ON document" if world.engine.dialect.name == "postgresql" else ""
    world.sql(f"DROP TRIGGER tr_document__report__{missing}{on}")
    with world.engine.connect() as connection:
        assert not triggers_stand(connection, world.Document.__table__.c.report)
        assert triggers_stand(connection, world.Document.__table__.c.scan)


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER tr_document__report__truncate ON document",
        "ALTER TABLE document DISABLE TRIGGER tr_document__report__delete",
    ],
)
def test_on_postgresql_a_disabled_trigger_does_not_stand(world, change):
    world.sql(change)
    with world.engine.connect() as connection:
        assert not triggers_stand(connection, world.Document.__table__.c.report)


def test_a_database_without_tables_has_no_triggers(engine: Engine):
    world = TriggerWorld(engine)
    with engine.connect() as connection:
        assert not triggers_stand(connection, world.Document.__table__.c.report)
        assert connection.scalar(text("SELECT 1")) == 1  # the transaction goes on


@pytest.mark.databases("sqlite", "postgresql")  # elsewhere DDL commits
def test_triggers_whose_making_is_rolled_back_do_not_stand(world):
    with world.engine.begin() as connection:
        drop_triggers(connection, world.metadata)
    number = world.add(report=b"one")
    with world.session() as session:
        create_triggers(session.connection(), world.metadata)
        session.delete(session.get_one(world.Document, number))
        session.flush()
        assert len(world.freed(session.connection())) == 1
        session.rollback()
        session.delete(session.get_one(world.Document, number))
        session.commit()
    assert world.objects() == set()


def test_triggers_that_another_process_drops_are_missed_at_the_end_of_the_next_transaction(world, database):
    for content in (b"one", b"two"):
        number = world.add(report=content)
        with world.session() as session:
            session.delete(session.get_one(world.Document, number))
            session.commit()
    assert world.objects() == set()
    other = database.engine()
    with other.begin() as connection:
        drop_triggers(connection, world.metadata)
    other.dispose()
    numbers = [world.add(report=content) for content in (b"left over", b"three", b"four")]
    for number in numbers:
        with world.session() as session:
            session.delete(session.get_one(world.Document, number))
            session.commit()
    assert world.contents() == [b"left over"]  # for a gc; the ORM writes the outbox from then on
