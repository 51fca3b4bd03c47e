"""Bulk statements of the ORM on fields with triggers: nothing is written twice, and nothing is missed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update

from granite_storage.exceptions import BulkStatementError
from granite_storage.orm.triggers import create_triggers, drop_triggers
from tests.orm.triggers.worlds import TriggerWorld

SYNCHRONIZE = ["auto", "evaluate", "fetch", False]


@pytest.mark.parametrize("stand", [True, False])
@pytest.mark.parametrize("synchronize", SYNCHRONIZE)
def test_each_object_is_written_once(world: TriggerWorld, synchronize: Any, stand: bool) -> None:
    one, two = world.add(report=b"1", scan=b"2", draft=b"3"), world.add(report=b"4", scan=b"5", draft=b"6")
    if not stand:
        with world.engine.begin() as connection:
            drop_triggers(connection, world.metadata)
    options = {"synchronize_session": synchronize}
    Document = world.Document
    with world.session() as session:
        session.execute(delete(Document).where(Document.id == one), execution_options=options)
        assert len(world.freed(session.connection())) == 3
        session.execute(update(Document).where(Document.id == two).values(scan=None), execution_options=options)
        assert len(world.freed(session.connection())) == 4
        session.query(Document).filter_by(id=two).update({"draft": None}, synchronize_session=synchronize)
        session.execute(update(Document), [{"id": two, "report": None}])
        assert len(world.freed(session.connection())) == 6
        session.commit()
    assert (world.freed(), world.objects()) == ([], set())


def test_a_rollback_and_a_savepoint_take_back_what_triggers_wrote(world: TriggerWorld) -> None:
    one, two = world.add(report=b"1"), world.add(report=b"2")
    with world.session() as session:
        session.execute(delete(world.Document).where(world.Document.id == one))
        savepoint = session.begin_nested()
        session.execute(delete(world.Document).where(world.Document.id == two))
        savepoint.rollback()
        session.commit()
        assert (world.freed(), world.contents()) == ([], [b"2"])
        session.execute(delete(world.Document))
        session.rollback()
    assert (world.freed(), world.contents()) == ([], [b"2"])
    world.check()


def test_what_is_inserted_in_bulk_is_freed_once(world: TriggerWorld) -> None:
    with world.session() as session:
        session.execute(insert(world.Document), [{"title": "a", "report": b"1"}, {"title": "b", "report": b"2"}])
        session.execute(delete(world.Document).where(world.Document.title == "a"))
        assert len(world.freed(session.connection())) == 1
        session.commit()
    assert (world.freed(), world.contents()) == ([], [b"2"])
    world.check()


def upsert(world: TriggerWorld) -> Any:
    """An INSERT that sets the report of the row that is there."""
    dialect = world.engine.dialect.name
    if dialect == "mariadb":
        from sqlalchemy.dialects.mysql import insert as into

        statement: Any = into(world.Document)
        return statement.on_duplicate_key_update(report=statement.inserted.report)
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as upserting
    else:
        from sqlalchemy.dialects.postgresql import insert as upserting  # type: ignore[assignment]
    other = upserting(world.Document)
    return other.on_conflict_do_update(index_elements=["id"], set_={"report": other.excluded.report})


def test_an_upsert_of_an_upload_leaves_the_old_object_to_the_sweep(world: TriggerWorld) -> None:
    number = world.add(report=b"old")
    with world.session() as session:
        session.execute(upsert(world), [{"id": number, "report": b"new"}])
        session.commit()
    world.manager.sweep(world.engine)
    assert (world.freed(), world.contents()) == ([], [b"new"])
    world.check()


def test_an_upsert_is_refused_where_the_triggers_are_missing(world: TriggerWorld) -> None:
    number = world.add(report=b"old")
    with world.engine.begin() as connection:
        drop_triggers(connection, world.metadata)
    with world.session() as session:
        with pytest.raises(BulkStatementError, match=r"^INSERT of Document.*with its triggers in the database"):
            session.execute(upsert(world), [{"id": number, "report": b"new"}])
        session.commit()
    with world.engine.begin() as connection:
        create_triggers(connection, world.metadata)
    assert world.contents() == [b"old"]
    world.check()


@pytest.mark.databases("sqlite")
def test_insert_or_replace_is_refused_where_triggers_do_not_fire_for_it(world: TriggerWorld) -> None:
    number = world.add(report=b"old")
    world.Document.__table__.c.draft.type.trigger = True
    with world.engine.begin() as connection:
        create_triggers(connection, world.metadata)
    statement = insert(world.Document).prefix_with("OR REPLACE")
    with world.session() as session:
        with pytest.raises(BulkStatementError, match="recursive_triggers"):
            session.execute(statement, [{"id": number, "report": b"new"}])
        session.rollback()
        session.execute(text("PRAGMA recursive_triggers = ON"))
        session.execute(statement, [{"id": number, "report": b"new"}])
        session.commit()
    world.manager.sweep(world.engine)
    assert world.contents() == [b"new"]
    world.check()


@pytest.mark.databases("postgresql")
def test_a_role_without_rights_on_the_outbox_may_run_bulk_statements(world: TriggerWorld) -> None:
    number = world.add(report=b"1", scan=b"2")
    with world.session() as session:
        session.execute(text("CREATE ROLE granite_test_bulk"))
        session.execute(text("GRANT USAGE ON SCHEMA public TO granite_test_bulk"))
        session.execute(text("GRANT SELECT, UPDATE, DELETE ON document TO granite_test_bulk"))
        session.commit()
    try:
        with world.session() as session:
            session.execute(text("SET LOCAL ROLE granite_test_bulk"))
            session.execute(delete(world.Document).where(world.Document.id == number))
            session.commit()
        assert world.objects() == set()
    finally:
        world.sql("DROP OWNED BY granite_test_bulk", "DROP ROLE granite_test_bulk")


@pytest.mark.databases("sqlite", "postgresql")  # MariaDB fires no triggers for cascades
def test_a_cascade_of_a_bulk_delete_frees_the_objects_of_the_children(world: TriggerWorld) -> None:
    with world.session() as session:
        session.add(world.Folder(id=1))
        session.commit()
    world.add(folder_id=1, report=b"1")
    with world.session() as session:
        session.execute(delete(world.Folder))
        session.commit()
    world.manager.sweep(world.engine)
    assert (world.named(), world.objects()) == ([], set())


def test_bulk_update_mappings_frees_what_it_replaces(world: TriggerWorld) -> None:
    number = world.add(report=b"1")
    with world.session() as session:
        session.bulk_update_mappings(world.Document, [{"id": number, "report": None}])
        session.commit()
    world.manager.sweep(world.engine)
    assert (world.named(), world.objects()) == ([], set())
