"""A move takes every file to where its policy has it now, while the application goes on, and loses none."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, literal, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from granite_storage import StoragePolicy, Upload
from granite_storage.events import StorageEvent
from granite_storage.exceptions import BackendError, ConfigurationError, ReplicaError
from granite_storage.maintenance import row_locks
from granite_storage.maintenance.move import rows, run
from granite_storage.move import StorageMover
from granite_storage.observing import StorageChange
from granite_storage.orm.members import portable_json
from granite_storage.verify import StorageVerifier
from tests.databases import Database, make_engine
from tests.maintenance.ages import waiting_updates
from tests.maintenance.forbidden import forbid_changes
from tests.maintenance.move.archives import ArchiveWorld
from tests.orm.outboxes import freed
from tests.orm.triggers.worlds import TriggerWorld
from tests.orm.worlds import in_thread


def test_every_file_of_a_policy_goes_to_another_and_its_old_object_is_deleted(world: ArchiveWorld) -> None:
    contents = world.fill()
    world.add(cover=b"cover", scan=b"scan")
    report = world.move()
    assert (report.moved, report.moved_bytes, report.deleted, report.complete) == (6, 44, 6, True)
    assert str(report) == "moved 6 files (44 bytes), deleted 6 old objects"
    assert world.read() == contents
    with world.session() as session:
        for file in session.scalars(select(world.Document.report).where(world.Document.report.is_not(None))):
            assert (file.storage_key, file.backend, file.location[:5]) == ("archive", "archive", "kept/")
    world.check_both()
    assert freed(world) == []
    assert world.move().moved == 0


def test_every_row_is_found_whatever_the_primary_key(world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of two columns, in stretches and batches that end in the middle of one country."""
    monkeypatch.setattr(rows, "STRETCH", 3)
    monkeypatch.setattr(run, "BATCH", 2)
    with world.session() as session:
        for country in ("nl", "de", "be"):
            for number in range(1, 5):
                contract = b"%s %d" % (country.encode(), number) if (number, country) != (2, "de") else None
                session.add(world.Author(country=country, number=number, kind="author", contract=contract))
        session.commit()
    contents = world.fill(7)
    told: list[int] = []
    report = world.mover(progress=lambda report: told.append(report.moved)).move("documents", to="archive")
    assert (report.moved, report.complete) == (18, True)
    assert told == sorted(told) and len(told) >= 10
    with world.session() as session:
        for author in session.scalars(select(world.Author).where(world.Author.contract.is_not(None))):
            assert author.contract.read() == b"%s %d" % (author.country.encode(), author.number)
            assert author.contract.storage_key == "archive"
    assert world.read() == contents
    world.check_both()


@pytest.mark.parametrize("when", ["before it is copied", "once it is copied"])
@pytest.mark.parametrize("change", ["replaced", "cleared", "deleted"])
def test_a_row_that_changes_during_its_batch_keeps_the_change(world: ArchiveWorld, change: str, when: str) -> None:
    world.manager.pool.size = 1
    contents = world.fill(3)
    chosen = max(contents) if when == "before it is copied" else min(contents)
    puts = itertools.count(1)

    def change_it(key: str) -> None:
        if next(puts) != 2:  # that of the row in the middle
            return
        with world.session() as session:
            document = session.get_one(world.Document, chosen)
            if change == "deleted":
                session.delete(document)
            else:
                document.report = b"new" if change == "replaced" else None
            session.commit()

    world.archive.before_put = change_it
    report = world.move()
    assert report.complete
    del contents[chosen]
    assert world.read() == (contents | {chosen: b"new"} if change == "replaced" else contents)
    # the new file is one of the policy's, and was moved as well
    assert (report.moved, report.raced) == ((3, 0) if change == "replaced" else (2, 1))
    assert set(world.policies_of().values()) == {"archive"}
    world.check_both()


def test_a_change_of_the_same_file_s_ref_is_not_undone(world: ArchiveWorld) -> None:
    """As an application's own SQL may write it: another member, and the same object."""
    (number,) = world.fill(1)
    changes = ["once"]

    def change_it(key: str) -> None:
        if changes:
            changes.pop()
            table = world.Document.__table__
            with world.engine.begin() as connection:
                ref = connection.scalar(select(table.c.report).where(table.c.id == number)).ref
                values = {"report": ref.replace(original_filename="renamed.txt")}
                connection.execute(table.update().where(table.c.id == number).values(values))

    world.archive.before_put = change_it
    assert world.move().moved == 1
    with world.session() as session:
        assert session.get_one(world.Document, number).report.filename == "renamed.txt"
    world.check_both()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_locked_row_is_not_waited_for_and_is_left_for_the_next_run(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_locks, "_FIRST_PAUSE", 0.001)
    contents = world.fill(3)
    locked = min(contents)
    with world.session() as session:
        session.get_one(world.Document, locked, with_for_update=True)
        report = world.move()
    assert (report.moved, report.failed, report.complete) == (2, 1, False)
    (finding,) = report.findings
    assert (finding.column, finding.key) == ("document.report", (locked,)) and "locked" in finding.problem
    world.check_both()  # its copy is gone
    assert world.move().moved == 1
    assert world.read() == contents


@pytest.mark.parametrize("times", [1, 2])
def test_copies_that_grow_too_old_while_a_lock_is_waited_for_are_made_anew(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    contents = world.fill(3)
    puts: list[str] = []

    def put(key: str) -> None:
        puts.append(key)
        clock.late = timedelta(0)

    def sweep() -> None:
        if len(puts) <= 3 * times:
            world.archive._objects.clear()
        else:  # nobody holds a lock any more
            clock.late = timedelta(0)

    with waiting_updates(world.engine, monkeypatch, 0.9 * world.manager.grace, sweep) as clock:
        world.archive.before_put = put
        report = world.move()
    assert (report.moved, report.raced, report.complete) == (3, 0, True)
    assert world.read() == contents
    world.check_both()


def test_a_row_whose_copies_always_grow_too_old_is_named_and_keeps_its_file(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = world.fill(2)
    sweep = world.archive._objects.clear
    with waiting_updates(world.engine, monkeypatch, 0.9 * world.manager.grace, sweep) as clock:
        world.archive.before_put = lambda key: setattr(clock, "late", timedelta(0))
        report = world.move()
    assert (report.moved, report.failed) == (0, 2) and "others held locks" in report.findings[0].problem
    assert world.read() == contents
    assert freed(world) == []
    world.check_both()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_row_whose_lock_is_let_go_of_is_moved(world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = world.fill(2)
    session = world.session()
    session.get_one(world.Document, min(contents), with_for_update=True)
    monkeypatch.setattr(row_locks.time, "sleep", lambda seconds: session.close())
    assert world.move().moved == 2
    assert world.read() == contents


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("statement", ["UPDATE", "COMMIT"])
def test_on_sqlite_it_tries_again_once_nobody_else_writes(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Somebody who reads lets an UPDATE be, and not its COMMIT; nothing is durable, and nothing is copied twice."""
    contents = world.fill(2)
    puts: list[str] = []
    world.archive.before_put = puts.append
    dialect: Any = world.engine.dialect
    locked = iter([True])
    method = "do_commit" if statement == "COMMIT" else "do_execute"
    real = getattr(dialect, method)

    def lock(*arguments: Any, **options: Any) -> Any:
        switching = statement == "COMMIT" or arguments[1].startswith("UPDATE document ")
        if switching and world.archive._objects and next(locked, False):
            locked_out = dialect.dbapi.OperationalError("database is locked")
            locked_out.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise locked_out
        return real(*arguments, **options)

    monkeypatch.setattr(row_locks, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(dialect, method, lock)
    report = world.move()
    assert (report.moved, report.failed, len(puts)) == (2, 0, 2)
    assert world.read() == contents
    world.check_both()


def test_a_database_of_others_is_no_success(world: ArchiveWorld, memory_engine: Engine) -> None:
    world.fill(1)
    mover = StorageMover(world.manager, engine=memory_engine)
    for dry_run in (True, False):
        with pytest.raises(
            ConfigurationError, match=r"none of the tables with file fields \(author, document, person\)"
        ):
            mover.move("documents", to="archive", dry_run=dry_run)


def test_a_file_field_that_nobody_asks_is_told(world: ArchiveWorld) -> None:
    world.fill(1)
    with world.engine.begin() as connection:
        connection.execute(text("ALTER TABLE document RENAME TO document_old"))
    report = world.move()
    assert (report.moved, report.complete) == (0, False)
    assert "3 file fields that nobody asked, document.cover, document.report, document.scan" in report.refused[0]


@pytest.mark.databases("postgresql", "mariadb")
def test_it_refuses_a_replica(world: ArchiveWorld) -> None:
    world.fill(1)
    asked = {"postgresql": "SELECT pg_is_in_recovery()", "mariadb": "SELECT @@read_only"}[world.engine.dialect.name]

    @event.listens_for(world.engine, "before_cursor_execute", retval=True)
    def lag(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> tuple[str, Any]:
        return ("SELECT 1" if statement == asked else statement), parameters

    for dry_run in (True, False):
        with pytest.raises(ReplicaError, match="primary"):
            world.move(dry_run=dry_run)
    assert list(world.archive.iter_locations()) == []


@pytest.mark.databases("postgresql")
def test_a_row_that_the_role_may_not_change_stops_no_other(world: ArchiveWorld) -> None:
    contents = world.fill(3)
    middle = sorted(contents)[1]
    forbid_changes(world.engine, middle, state="42501")
    report = world.move()
    assert (report.moved, [one.key for one in report.findings]) == (2, [(middle,)])
    assert world.read() == contents
    world.check_both()


@pytest.mark.databases("postgresql")
def test_a_role_that_may_change_no_row_is_not_tried_for_ever(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 2)
    monkeypatch.setattr(run, "_FAILURES", 3)
    contents = world.fill(8)
    forbid_changes(world.engine, None, state="42501")
    report = world.move()
    assert (report.moved, report.failed) == (0, 4) and "4 files could not be moved" in report.refused[0]
    assert world.read() == contents
    world.check_both()


@pytest.mark.parametrize("make", [create_engine, make_engine], ids=["as the driver is", "real transactions"])
@pytest.mark.parametrize("reset", ["rollback", None])
def test_a_commit_that_a_reader_holds_up_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reset: str | None, make: Callable[..., Engine]
) -> None:
    """Whatever the pool does with a connection that comes back: the driver is in no transaction then."""
    path = tmp_path / "read.db"
    engine = make(f"sqlite:///{path}", connect_args={"timeout": 0.2}, pool_reset_on_return=reset)
    with ArchiveWorld(engine).with_archive() as world:
        contents = world.fill(2)
        reader = sqlite3.connect(path)
        reading = reader.execute("SELECT id FROM document")
        reading.fetchone()
        monkeypatch.setattr(row_locks.time, "sleep", lambda seconds: reading.close())
        report = world.move()
        reader.close()
        assert (report.moved, report.raced, report.failed) == (2, 0, 0)
        assert world.read() == contents
        world.check_both()
    engine.dispose()


def test_triggers_write_the_outbox_and_nobody_else_does(engine: Engine) -> None:
    world = TriggerWorld(engine)
    world.metadata.create_all(engine)
    world.add(report=b"report", scan=b"scan", draft=b"draft")
    old = world.objects()
    inserted: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, *rest: inserted.append(statement))
    world.backend.before_delete = _fail
    archive = StoragePolicy("archive", "memory", key_prefix="kept")
    with world.manager.override({"memory": world.backend}, {**world.manager.policies, "archive": archive}):
        report = StorageMover(world.manager, engine=engine).move("documents", to="archive")
        assert (report.moved, report.deleted) == (3, 0)
        assert world.freed() == sorted(old), "each old object stands in the outbox once"
        by_hand = [one for one in inserted if one.startswith("INSERT INTO granite_storage_outbox")]
        assert len(by_hand) == 1, "that of the field without a trigger"
        assert {location[:5] for location in world.named()} == {"kept/"}


def _fail(location: str) -> None:
    raise OSError("the disk fails")


@pytest.mark.parametrize("durable", [True, False])
def test_a_lost_answer_to_the_commit_deletes_nothing(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """It was durable, or it was not: nobody knows, so that both objects stay until a sweep has asked."""
    contents = world.fill(2)
    dialect: Any = world.engine.dialect
    end = dialect.do_commit if durable else dialect.do_rollback
    commit = dialect.do_commit

    def lose(connection: Any) -> None:
        if not world.archive._objects:  # it is not that of the switch
            return commit(connection)
        end(connection)
        raise dialect.dbapi.OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_commit", lose)
        with pytest.raises(DBAPIError):
            world.move()
    assert world.read() == contents
    assert (len(world.objects()), len(list(world.archive.iter_locations()))) == (2, 2)
    world.sweep_all()
    assert world.read() == contents
    world.check_both()
    assert world.move().moved == (0 if durable else 2)
    assert world.read() == contents


def test_a_row_that_the_database_will_not_change_is_named_and_the_others_are_moved(world: ArchiveWorld) -> None:
    _one_is_refused(world, deferred=False)


@pytest.mark.databases("postgresql")
def test_a_row_that_would_be_refused_at_the_commit_is_named_and_the_others_are_moved(world: ArchiveWorld) -> None:
    _one_is_refused(world, deferred=True)


def _one_is_refused(world: ArchiveWorld, *, deferred: bool) -> None:
    contents = world.fill(3)
    fixed = sorted(contents)[1]
    forbid_changes(world.engine, fixed, deferred=deferred)
    report = world.move()
    assert (report.moved, report.failed) == (2, 1)
    assert report.findings[0].key == (fixed,) and "refused to change the row" in report.findings[0].problem
    assert world.read() == contents
    world.check_both()


def test_writers_replace_add_and_delete_while_it_moves(world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH", 4)
    contents = world.fill(24)
    chance = random.Random(6)
    moving = threading.Event()

    def write() -> None:
        moving.wait(30)
        for number, key in enumerate(chance.sample(sorted(contents), 16)):
            done = False
            while not done:
                with suppress(OperationalError), world.session() as session:  # SQLite: the move writes
                    document = session.get_one(world.Document, key, with_for_update=True)
                    if number % 3 == 0:
                        session.delete(document)
                    else:
                        document.report = b"new %d" % number
                    session.commit()
                    done = True
            if number % 3 == 0:
                del contents[key]
            else:
                contents[key] = b"new %d" % number

    join = in_thread(write)
    report = world.mover(progress=lambda report: moving.set()).move("documents", to="archive")
    join()
    assert not report.refused
    assert world.read() == contents
    world.move()
    assert world.read() == contents
    assert set(world.policies_of().values()) == {"archive"}
    world.sweep_all()
    world.check_both()


def test_two_moves_at_once_move_each_file_once(world: ArchiveWorld) -> None:
    contents = world.fill(12)
    barrier = threading.Barrier(2, timeout=30)
    moved: list[int] = []

    def move() -> None:
        barrier.wait()
        moved.append(world.move().moved)

    join = in_thread(move)
    move()
    join()
    assert world.read() == contents
    assert sum(moved) == 12
    world.sweep_all()
    world.check_both()


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
@pytest.mark.databases("sqlite", "postgresql")
def test_it_can_be_awaited(database: Database, world: ArchiveWorld, kind: str) -> None:
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    contents = world.fill(3)

    async def move() -> int:
        engine = create_async_engine(database.url_through(entry)) if kind == "asynchronous" else world.engine
        try:
            report = await StorageMover(world.manager, engine=engine).amove("documents", to="archive")
            return report.moved
        finally:
            if engine is not world.engine:
                await engine.dispose()  # type: ignore[misc]

    assert asyncio.run(move()) == 3
    assert world.read() == contents
    world.check_both()


def test_observers_are_told(world: ArchiveWorld) -> None:
    world.fill(1)
    (old,) = world.objects()
    changes: list[StorageChange] = []
    world.manager.observers.append(changes.append)
    world.move()
    (change,) = changes
    assert [ref.location for ref in change.freed] == [old]
    assert [ref.location for ref in change.stored] == world.named()


def test_events_tell_of_each_file(world: ArchiveWorld) -> None:
    world.fill(2)
    lost = min(world.objects())
    del world.backend._objects[lost]
    events: list[StorageEvent] = []
    world.manager.on_event(events.append)
    world.move()
    assert sorted((event.kind, event.policy, event.doing) for event in events) == [
        ("deleted", "documents", ""),
        ("failed", "documents", "move"),
        ("moved", "archive", ""),
    ]
    (moved,) = (event for event in events if event.kind == "moved")
    assert (moved.backend, moved.bytes) == ("archive", 8) and moved.location in world.named()


def test_a_copy_that_fails_since_its_row_has_changed_is_no_failure(world: ArchiveWorld) -> None:
    (number,) = world.fill(1)
    events: list[StorageEvent] = []

    def replace(key: str) -> None:
        world.archive.before_put = lambda key: None
        with world.session() as session:
            session.get_one(world.Document, number).report = Upload(b"new")
            session.commit()
        raise BackendError("what was read is gone")

    world.archive.before_put = replace
    world.manager.on_event(events.append)
    report = world.move()
    assert (report.moved, report.failed, world.read()) == (1, 0, {number: b"new"})
    assert [event.kind for event in events] == ["stored", "deleted", "moved", "deleted"]


def test_an_object_that_two_rows_name_stays_until_both_have_a_copy(world: ArchiveWorld) -> None:
    """As granite-storage 0.1.0 allowed it."""
    number = world.add(report=b"shared")
    with world.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO document (id, scan) SELECT 1000, report FROM document WHERE id = :id"), {"id": number}
        )
    report = world.move()
    assert (report.moved, report.complete) == (2, True)
    with world.session() as session:
        assert session.get_one(world.Document, 1000).scan.read() == b"shared"
        assert session.get_one(world.Document, number).report.read() == b"shared"
    world.check_both()


def test_what_is_no_ref_is_named(world: ArchiveWorld) -> None:
    world.fill(1)
    broken = {"storage_key": "documents", "backend": "memory", "location": "docs/x", "size": -1}
    with world.engine.begin() as connection:
        table = world.Document.__table__
        raw = literal(broken, portable_json())
        connection.execute(insert(table).from_select(["id", "report"], select(literal(500), raw)))
    report = world.move()
    assert (report.moved, report.failed) == (1, 1)
    assert report.findings[0].key == (500,) and "'size'" in report.findings[0].problem


def test_what_is_there_already_is_left_alone(world: ArchiveWorld) -> None:
    world.fill(1)
    stored = world.manager.store("archive", Upload(b"new", "new.txt"))
    with world.engine.begin() as connection:
        connection.execute(insert(world.Document.__table__), {"id": 700, "report": stored.ref})
    assert world.move().moved == 1
    assert stored.location in world.named()
    world.check_both()


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_schema_per_tenant_is_moved_with_the_engines_of_all(
    world: ArchiveWorld, threads: Executor, in_parts: bool
) -> None:
    tenants = []
    for name in ("one", "two"):
        with world.engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        tenants.append(world.engine.execution_options(schema_translate_map={None: name}))
        world.Base.metadata.create_all(tenants[-1])
        with Session(tenants[-1]) as session:
            session.add_all([world.Document(report=name.encode()), world.Document(report=b"both")])
            session.commit()
    executor = threads if in_parts else None
    report = StorageMover(world.manager, engine=tenants).move("documents", to="archive", executor=executor)
    assert (report.moved, report.deleted, report.complete) == (4, 4, True)
    verified = StorageVerifier(world.manager, engine=tenants).verify(executor=executor)
    assert str(verified) == "verified 4 rows and 4 objects: all is well"
    for tenant, name in zip(tenants, ("one", "two"), strict=True):
        with Session(tenant) as session:
            files = session.scalars(select(world.Document.report).order_by(world.Document.id)).all()
            assert [(file.storage_key, file.read()) for file in files] == [
                ("archive", name.encode()),
                ("archive", b"both"),
            ]
    assert world.manager.sweep([world.engine, *tenants], grace=timedelta(0)).complete
    assert (len(world.objects()), len(list(world.archive.iter_locations()))) == (0, 4)
