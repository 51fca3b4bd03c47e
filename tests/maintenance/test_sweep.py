"""The sweep finishes what crashes and failures left over, deletes nothing else, and costs what the churn costs."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, text, update

from granite_storage import LocalStorageBackend, StorageManager, StoragePolicy, StoredObjectRef
from granite_storage.backends.base import Ability
from granite_storage.exceptions import BackendError, ConfigurationError, ReplicaError
from granite_storage.maintenance.sweep_report import SweepReport
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.registry import registry_of
from tests.maintenance.ages import HOUR, put_old
from tests.maintenance.watching import asked, assert_served_by_index, waiting_transaction
from tests.orm.worlds import World, in_thread

DAY = timedelta(days=1)


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    return fail


def _outbox(world: World) -> list[Any]:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.connect() as connection:
        return list(connection.execute(select(outbox).order_by(outbox.c.id)))


def _left_in_outbox(world: World, *contents: bytes) -> list[str]:
    """Freed objects whose deletion after the commit failed; their locations."""
    locations = []
    world.backend.before_delete = _raise(BackendError("refused"))
    for content in contents:
        key = world.add(report=content)
        with world.session() as session:
            document = session.get_one(world.Document, key)
            locations.append(document.report.location)
            session.delete(document)
            session.commit()
    world.backend.before_delete = lambda location: None
    return locations


def _make_due(world: World) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.begin() as connection:
        connection.execute(update(outbox).values(not_before=None))


# The outbox


def test_what_could_not_be_deleted_after_the_commit_goes_once_it_is_due(world: World) -> None:
    world.add(report=b"kept")
    freed = _left_in_outbox(world, b"a", b"b", b"c")
    assert world.manager.sweep(world.engine).freed == 0  # the failure is a moment ago
    assert set(freed) <= world.objects()
    _make_due(world)
    report = world.manager.sweep(world.engine)
    assert (report.freed, report.failed, report.complete) == (3, 0, True)
    assert world.contents() == [b"kept"] and _outbox(world) == []
    world.check()


def test_more_than_one_batch_is_worked_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.orm.outbox.BATCH", 2)
    world.add(report=b"kept")
    _left_in_outbox(world, *[bytes([n]) for n in range(5)])
    _make_due(world)
    assert world.manager.sweep(world.engine).freed == 5
    assert world.contents() == [b"kept"] and _outbox(world) == []


def test_a_freed_object_that_a_row_names_again_stays(world: World) -> None:
    key = world.add(report=b"kept")
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.session() as session:
        ref = session.get_one(world.Document, key).report.ref
    row = {"backend": "memory", "location": ref.location, "storage_key": "documents", "size": 4, "source": "x"}
    with world.engine.begin() as connection:
        connection.execute(outbox.insert().values(row))
    report = world.manager.sweep(world.engine)
    assert (report.freed, report.named) == (0, 1)
    assert world.contents() == [b"kept"] and _outbox(world) == []


def test_a_policy_retains_what_is_freed_even_where_a_trigger_wrote_the_row(world: World) -> None:
    policy = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=7))
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.manager.override(backends={"memory": world.backend}, policies={"documents": policy}):
        key = world.add(report=b"retained", cover=b"cover")
        with world.session() as session:
            session.delete(session.get_one(world.Document, key))
            session.commit()
        assert world.contents() == [b"retained"]
        _make_due(world)  # as a trigger writes it
        assert world.manager.sweep(world.engine, dry_run=True).freed == 0
        assert world.manager.sweep(world.engine).freed == 0
        (row,) = _outbox(world)
        assert row.not_before - row.freed_at == timedelta(days=7)
        with world.engine.begin() as connection:
            connection.execute(
                update(outbox).values(freed_at=row.freed_at - 8 * DAY, not_before=row.not_before - 8 * DAY)
            )
        assert world.manager.sweep(world.engine, dry_run=True).freed == 1
        assert world.manager.sweep(world.engine).freed == 1
    assert world.contents() == []


def test_a_recent_upload_that_is_retained_is_not_taken_for_left_over(world: World) -> None:
    policy = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=7))
    with world.manager.override(backends={"memory": world.backend}, policies={"documents": policy}):
        world.add(report=b"kept")
        key = world.add(report=b"retained")
        with world.session() as session:
            session.delete(session.get_one(world.Document, key))
            session.commit()
        assert world.manager.sweep(world.engine, grace=timedelta(0), dry_run=True).orphans == 0
        assert world.manager.sweep(world.engine, grace=timedelta(0)).orphans == 0
    assert world.contents() == [b"kept", b"retained"] and len(_outbox(world)) == 1


@pytest.mark.databases("postgresql", "mariadb")
def test_it_does_not_wait_for_transactions_that_are_open(world: World) -> None:
    policy = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=7))
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    engine = world.engine.execution_options(isolation_level="SERIALIZABLE")  # where a SELECT takes locks, too
    with world.manager.override(backends={"memory": world.backend}, policies={"documents": policy}):
        keys = [world.add(report=b"report", cover=b"cover") for _ in range(2)]
        with world.session() as session:
            session.delete(session.get_one(world.Document, keys[0]))
            session.commit()
        _make_due(world)  # as a trigger writes it
        with world.session() as session:
            session.get_one(world.Document, keys[1]).cover = b"another"
            session.flush()
            in_thread(lambda: world.manager.sweep(engine, grace=HOUR))()
            in_thread(lambda: world.manager.sweep(engine))()
    assert _outbox(world)[0].not_before is not None


def test_what_is_refused_for_ever_backs_off_and_is_reported_as_stuck(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(report=b"kept")
    (location,) = _left_in_outbox(world, b"locked")
    world.backend.before_delete = _raise(BackendError("AccessDenied (object lock)"))
    pauses = []
    for attempts in range(1, 5):
        _make_due(world)
        assert world.manager.sweep(world.engine).failed == 1
        (row,) = _outbox(world)
        assert row.attempts == attempts + 1
        pauses.append(row.not_before)
    assert [b > a + timedelta(seconds=30) for a, b in itertools.pairwise(pauses)] == [True] * 3
    report = world.manager.sweep(world.engine)
    (stuck,) = report.stuck
    assert (stuck.location, stuck.attempts, stuck.last_error) == (location, 5, "AccessDenied (object lock)")
    assert not report.complete and "1 stuck" in str(report)
    assert "cannot be deleted" in caplog.text and location in caplog.text


def test_an_outbox_row_of_an_unknown_backend_stays_with_the_reason(world: World) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    world.add(report=b"kept")
    row = {"backend": "tape", "location": "docs/x", "storage_key": "old", "size": None, "source": "x"}
    with world.engine.begin() as connection:
        connection.execute(outbox.insert().values(row))
    assert world.manager.sweep(world.engine).failed == 1
    (row,) = _outbox(world)
    assert "Unknown backend: 'tape'" in row.last_error


# Recent uploads


def test_an_upload_whose_transaction_never_committed_goes_when_it_is_older_than_the_grace_period(world: World) -> None:
    world.add(report=b"kept")
    old, young = put_old(world.backend, 25 * HOUR), put_old(world.backend, 23 * HOUR)
    report = world.manager.sweep(world.engine)
    assert (report.scanned, report.orphans) == (1, 1)
    assert old not in world.objects() and young in world.objects()


def test_an_object_is_as_old_as_the_younger_of_what_its_location_and_the_store_tell(world: World) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 30 * HOUR, modified=2 * HOUR)
    assert world.manager.sweep(world.engine).orphans == 0
    assert world.manager.sweep(world.engine, grace=HOUR).orphans == 1
    assert location not in world.objects()


@pytest.mark.parametrize("prefix", ["docs", "covers"])
def test_nothing_outside_the_policies_days_is_touched(world: World, prefix: str) -> None:
    world.add(report=b"kept")
    orphan = put_old(world.backend, 25 * HOUR, prefix=prefix)
    others = [put_old(world.backend, 25 * HOUR, prefix=other) for other in ("docs-old", "docs/sub", "other")]
    day = orphan.rsplit("/", 1)[0]
    world.backend.put_bytes(key=f"{day}/notes.txt", content=b"somebody else's")
    report = world.manager.sweep(world.engine)
    assert report.orphans == 1 and orphan not in world.objects()
    assert {*others, f"{day}/notes.txt"} <= world.objects()


def test_an_object_that_a_row_names_stays_however_old_it_is(world: World) -> None:
    location = put_old(world.backend, 26 * HOUR)
    key = world.add(report=b"x")
    with world.session() as session:
        ref = session.get_one(world.Document, key).report.ref.replace(location=location)
        session.execute(world.Document.__table__.update().values(report=ref))
        session.commit()
    report = world.manager.sweep(world.engine, grace=timedelta(0))
    assert report.scanned == 2 and report.orphans == 1 and location in world.objects()
    world.check()


def test_a_shorter_grace_period_is_logged_as_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.manager.sweep(world.engine, grace=2 * DAY)
    assert "shorter" not in caplog.text
    world.manager.sweep(world.engine, grace=HOUR)
    assert "shorter than the manager's" in caplog.text


def test_the_second_sweep_begins_where_the_first_one_stopped_and_since_overrides_it(world: World) -> None:
    world.add(report=b"kept")
    world.manager.sweep(world.engine)
    missed = put_old(world.backend, 5 * DAY)  # which nobody uploads today
    assert world.manager.sweep(world.engine).scanned == 0
    report = world.manager.sweep(world.engine, since=datetime.now(UTC) - 6 * DAY)
    assert report.orphans == 1 and missed not in world.objects()


def test_a_sweep_that_could_not_finish_begins_there_again(world: World) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 3 * DAY)
    world.backend.before_delete = _raise(BackendError("refused"))
    report = world.manager.sweep(world.engine)
    assert report.failed == 1 and report.watermark is None and not report.complete
    world.backend.before_delete = lambda location: None
    report = world.manager.sweep(world.engine)
    assert report.orphans == 1 and report.watermark is not None and location not in world.objects()


def test_the_watermark_never_goes_back(world: World) -> None:
    registry = registry_of(world.Base.metadata)
    assert registry is not None

    def reached() -> Any:
        with world.engine.connect() as connection:
            return connection.scalar(select(registry.c.watermark).where(registry.c.table_name == ""))

    world.manager.sweep(world.engine, grace=HOUR)
    first = reached()
    world.manager.sweep(world.engine, grace=48 * HOUR)
    assert reached() == first is not None


class _Requests:
    """Counts listings and statements, but for MariaDB's looks at what other test workers have prepared."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listings = self.statements = 0
        listing = world.backend.iter_objects

        def counted(*args: Any, **options: Any) -> Iterator[Any]:
            self.listings += 1
            return listing(*args, **options)

        monkeypatch.setattr(world.backend, "iter_objects", counted)
        event.listen(world.engine, "before_cursor_execute", self._statement)

    def _statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements += statement != "XA RECOVER"

    def taken(self) -> tuple[int, int]:
        taken = self.listings, self.statements
        self.listings = self.statements = 0
        return taken


def test_its_cost_does_not_grow_with_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(report=b"kept")
    requests = _Requests(world, monkeypatch)

    def churn() -> None:
        for _ in range(20):
            put_old(world.backend, 25 * HOUR)

    for _ in range(10):
        put_old(world.backend, 60 * DAY)
    churn()
    world.manager.sweep(world.engine)
    churn()
    requests.taken()
    assert world.manager.sweep(world.engine).orphans == 20
    with_ten = requests.taken()
    for n in range(100_000):
        put_old(world.backend, (60 + n % 365) * DAY, content=b"")
    churn()
    requests.taken()
    assert world.manager.sweep(world.engine).orphans == 20
    assert requests.taken() == with_ten
    assert with_ten[0] < 20 and with_ten[1] < 40


def test_the_check_is_served_by_the_index(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Document(report=bytes([n]), cover=b"cover") for n in range(50))
        session.commit()
    for _ in range(3):
        put_old(world.backend, 25 * HOUR)
    with asked(world.engine, lambda text: "document" in text and " IN (" in text and "outbox" not in text) as checks:
        world.manager.sweep(world.engine)
    assert_served_by_index(world.engine, checks)


# The brake


def test_too_large_a_share_needs_an_explicit_word(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(900))
        session.commit()
    orphans = {put_old(world.backend, 3 * HOUR) for _ in range(101)}
    report = world.manager.sweep(world.engine, grace=timedelta(0))
    assert report.scanned == 1001 and report.orphans == 0 and orphans <= world.objects()
    assert "sweep(force=True)" in report.refused[0] and report.watermark is None
    report = world.manager.sweep(world.engine, grace=timedelta(0), force=True)
    assert report.orphans == 101 and report.complete
    world.check()


def test_a_tenth_of_many_or_all_of_a_few_needs_none(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(900))
        session.commit()
    for _ in range(100):
        put_old(world.backend, 3 * HOUR)
    assert world.manager.sweep(world.engine, grace=timedelta(0)).orphans == 100
    world.check()


def test_if_no_row_names_anything_nothing_is_deleted_without_the_word(world: World) -> None:
    location = put_old(world.backend, 25 * HOUR)
    report = world.manager.sweep(world.engine)
    assert "nothing names any object" in report.refused[0] and location in world.objects()
    assert world.manager.sweep(world.engine, force=True).orphans == 1
    assert world.objects() == set()


def test_memory_is_bounded_also_where_much_is_left_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.sweep._HELD", 10)
    monkeypatch.setattr("granite_storage.maintenance.recent._BATCH", 10)
    monkeypatch.setattr("granite_storage.maintenance.brake._OBJECTS", 20)
    world.add(report=b"kept")
    for _ in range(60):
        put_old(world.backend, 25 * HOUR)
    report = world.manager.sweep(world.engine)
    assert report.refused and report.scanned < 60 and report.orphans <= 20
    assert world.manager.sweep(world.engine, force=True).complete
    world.check()


# Whom it asks


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(world: World) -> None:
    world.add(report=b"kept")
    _left_in_outbox(world, b"a", b"b")
    _make_due(world)
    put_old(world.backend, 25 * HOUR)
    objects, rows = world.objects(), _outbox(world)
    report = world.manager.sweep(world.engine, dry_run=True)
    assert (report.freed, report.orphans, report.watermark) == (2, 1, None)
    assert "would be deleted" in str(report)
    assert world.objects() == objects and _outbox(world) == rows
    report = world.manager.sweep(world.engine)
    assert (report.freed, report.orphans) == (2, 1)


def test_a_dry_run_marks_no_prefix(world: World) -> None:
    manager = StorageManager({"memory": world.backend}, dict(world.manager.policies), owner="staging")
    world.Base.metadata.info.clear()
    manager.attach(world.Base)
    registry = registry_of(world.Base.metadata)
    assert registry is not None
    with world.engine.begin() as connection:
        connection.execute(delete(registry))
    assert manager.sweep(world.engine, dry_run=True).complete
    assert [*world.backend.iter_locations("docs/.granite-storage")] == []
    with world.engine.connect() as connection:
        assert connection.execute(select(registry)).all() == []


def test_two_sweeps_at_once_do_the_work_once(world: World) -> None:
    world.add(report=b"kept")
    _left_in_outbox(world, *[bytes([n]) for n in range(20)])
    _make_due(world)
    for _ in range(20):
        put_old(world.backend, 25 * HOUR)
    start = threading.Barrier(2)
    reports: list[SweepReport] = []

    def run() -> None:
        start.wait(30)
        reports.append(world.manager.sweep(world.engine))

    for join in [in_thread(run), in_thread(run)]:
        join()
    assert world.contents() == [b"kept"] and _outbox(world) == []
    if world.engine.dialect.name != "sqlite":  # which has no row locks: both may delete the same, which harms nothing
        assert sum(report.freed for report in reports) == 20
    world.check()


def test_the_engine_may_come_from_attach(world: World) -> None:
    world.add(report=b"kept")
    with pytest.raises(ConfigurationError, match=r"manager\.attach\(Base, engine=engine\)"):
        world.manager.sweep()
    world.manager.attach(world.Base, engine=world.engine)
    put_old(world.backend, 25 * HOUR)
    assert world.manager.sweep().orphans == 1


def test_a_manager_that_serves_no_models_says_so() -> None:
    manager = StorageManager({"memory": "memory://"}, {"docs": StoragePolicy("docs", "memory")})
    with pytest.raises(ConfigurationError, match="attach"):
        manager.sweep()


@pytest.mark.databases("postgresql", "mariadb")
def test_it_refuses_a_replica(world: World) -> None:
    """The servers here are primaries, so the question is changed on its way to them."""
    put_old(world.backend, 25 * HOUR)
    asked = {"postgresql": "SELECT pg_is_in_recovery()", "mariadb": "SELECT @@read_only"}[world.engine.dialect.name]

    @event.listens_for(world.engine, "before_cursor_execute", retval=True)
    def lag(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> tuple[str, Any]:
        return ("SELECT 1" if statement == asked else statement), parameters

    with pytest.raises(ReplicaError, match="primary"):
        world.manager.sweep(world.engine, force=True)
    assert len(world.objects()) == 1


@pytest.mark.databases("mariadb")
def test_prepared_transactions_of_unknown_age_keep_all_recent_uploads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granite_storage.maintenance.horizon._LOOKS", 2)
    world.add(report=b"kept")
    location = put_old(world.backend, 40 * HOUR)
    with waiting_transaction(world.engine):
        report = world.manager.sweep(world.engine)
        assert location in world.objects() and "XA RECOVER" in report.refused[0]
    assert world.manager.sweep(world.engine).orphans == 1


def test_a_missing_registry_says_how_to_make_it(world: World) -> None:
    put_old(world.backend, 25 * HOUR)
    with world.engine.begin() as connection:
        connection.execute(text("DROP TABLE granite_storage_fields"))
    with pytest.raises(ConfigurationError, match=r"granite_storage_fields.*create_all"):
        world.manager.sweep(world.engine)


def test_a_ref_that_cannot_be_decoded_keeps_the_object_at_its_location(world: World) -> None:
    key = world.add(report=b"kept")
    location = put_old(world.backend, 25 * HOUR)
    broken = f'{{"location": "{location}", "size": "?"}}'
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE document SET scan = :broken WHERE id = :id"), {"broken": broken, "id": key})
    assert world.manager.sweep(world.engine).orphans == 0
    assert location in world.objects()


def test_each_deletion_is_logged_without_a_filename(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "granite_storage")
    world.add(report=b"kept")
    (freed,) = _left_in_outbox(world, b"secret.pdf")
    _make_due(world)
    orphan = put_old(world.backend, 25 * HOUR)
    caplog.clear()
    world.manager.sweep(world.engine)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("deleted")] == [
        f"deleted memory:{freed}",
        f"deleted memory:{orphan}",
    ]
    assert "secret" not in caplog.text


def test_a_backend_of_the_old_protocol_is_swept_by_the_age_in_its_locations(engine: Engine) -> None:
    class Plain:
        backend_name = "plain"

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            if name in ("put_bytes", "put_stream", "get", "open", "delete", "exists", "iter_locations"):
                return getattr(self._inner, name)
            raise AttributeError(name)

    world = World(engine)
    with world.manager.override(backends={"memory": Plain(world.backend)}):  # type: ignore[dict-item]
        world.add(report=b"kept")
        old, young = put_old(world.backend, 25 * HOUR), put_old(world.backend, 2 * HOUR)
        assert world.manager.sweep(world.engine).orphans == 1
    assert old not in world.objects() and young in world.objects()
    assert isinstance(StoredObjectRef("", "memory", old, 0, "").location, str)


def test_leftovers_of_the_backends_go_too(engine: Engine, tmp_path: Path) -> None:
    world = World(engine)
    local = LocalStorageBackend(tmp_path / "store", fsync=False)
    with world.manager.override(backends={"memory": local}):
        world.add(report=b"kept")
        day = tmp_path / "store/docs/2020/01/31"
        day.mkdir(parents=True)
        cut_off = tmp_path / "store/.incoming/cut-off"
        cut_off.write_bytes(b"a part")
        os.utime(cut_off, (0, 0))
        assert world.manager.sweep(engine, dry_run=True).leftovers > 0
        assert day.exists() and cut_off.exists()
        report = world.manager.sweep(engine)
        assert report.leftovers >= 2 and report.complete
    assert not day.exists() and not cut_off.exists()
    assert len(list(local.iter_locations())) == 1


def test_leftovers_that_cannot_be_removed_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(report=b"kept")
    monkeypatch.setattr(type(world.backend), "abilities", world.backend.abilities | {Ability.LEFTOVERS})
    monkeypatch.setattr(world.backend, "remove_leftovers", _raise(BackendError("no")), raising=False)
    report = world.manager.sweep(world.engine)
    assert report.failed == 1 and not report.complete


def test_leftovers_outside_the_policies_prefixes_are_nobodys_business(engine: Engine, tmp_path: Path) -> None:
    world = World(engine)
    with world.manager.override(backends={"memory": LocalStorageBackend(tmp_path / "store", fsync=False)}):
        world.add(report=b"kept")
        theirs, ours = tmp_path / "store/theirs/2020/01/31", tmp_path / "store/covers/2020/01/31"
        theirs.mkdir(parents=True)
        ours.mkdir(parents=True)
        assert world.manager.sweep(engine).complete
    assert theirs.exists() and not ours.exists()


def test_leftovers_below_another_owners_prefix_are_not_removed(engine: Engine, tmp_path: Path) -> None:
    world = World(engine)
    store = LocalStorageBackend(tmp_path / "store", fsync=False)
    with world.manager.override(backends={"memory": store}):
        others = StorageManager({"memory": store}, {}, owner="other")
        others.ownership.take(store, world.manager.policies["documents"], set())
        theirs, ours = tmp_path / "store/docs/2020/01/31", tmp_path / "store/covers/2020/01/31"
        theirs.mkdir(parents=True)
        ours.mkdir(parents=True)
        report = world.manager.sweep(engine)
    assert "belongs to the owner 'other'" in report.refused[0]
    assert theirs.exists() and not ours.exists()


def test_what_another_librarys_error_says_is_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 25 * HOUR)
    world.backend.before_delete = _raise(RuntimeError("https://bucket/key?X-Amz-Signature=secret"))
    assert world.manager.sweep(world.engine).failed == 1
    assert "could not delete" in caplog.text and "secret" not in caplog.text


def test_an_instant_long_ago_costs_no_more_than_there_are_days_with_uploads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"kept")
    old, listed = put_old(world.backend, 40 * DAY), list[str]()
    real = world.backend.iter_objects
    monkeypatch.setattr(world.backend, "iter_objects", lambda prefix, **kw: listed.append(prefix) or real(prefix, **kw))
    report = world.manager.sweep(world.engine, since=datetime(1, 1, 1, tzinfo=UTC))
    assert (report.scanned, report.orphans) == (1, 1) and old not in world.objects()
    assert len(listed) < 60
    put_old(world.backend, 40 * DAY, prefix="covers")
    world.backend._objects["covers/0-of another layout"] = world.backend._objects[next(iter(world.objects()))]
    assert world.manager.sweep(world.engine, since=datetime.now(UTC) - 100 * DAY).orphans == 1


def test_an_instant_that_is_not_past_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match=r"since= is the instant .* not past yet"):
        world.manager.sweep(world.engine, since=datetime.now(UTC) + DAY)
