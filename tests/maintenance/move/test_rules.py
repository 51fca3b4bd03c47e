"""What is moved, what stays of it, and what is left where it is: rules that no database changes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Enum,
    FetchedValue,
    Integer,
    MetaData,
    Table,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    ConfigurationError,
    FileColumn,
    FileMapped,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    Upload,
    ValidationError,
)
from granite_storage.backends.memory import _Object
from granite_storage.exceptions import BackendUnavailableError, OwnershipError, StorageError
from granite_storage.maintenance.move import batch, copying, pace, parallel, rows, run
from granite_storage.maintenance.move.pace import Pace
from granite_storage.move import StorageMover
from granite_storage.orm.options import metadata_options
from granite_storage.ownership import is_mark
from granite_storage.verify import StorageVerifier
from tests.conftest import Bucket
from tests.maintenance.executors import LaterExecutor
from tests.maintenance.move.archives import ArchiveWorld
from tests.orm.outboxes import freed


def _ref(world: ArchiveWorld, number: int) -> Any:
    with world.session() as session:
        return session.get_one(world.Document, number).report.ref


def test_what_a_ref_says_of_the_file_stays(small: ArchiveWorld) -> None:
    number = small.add(report=Upload(b"a,b\n1,2\n", "table.csv", "text/csv", {"page": 7, "bucket": "mine"}))
    table = small.Document.__table__
    unknown = {**_ref(small, number).to_dict(), "colour": "red", "created_at": "2024-02-03T04:05:06+00:00"}
    with small.engine.begin() as connection:
        connection.execute(update(table).values(report=small.manager.file(unknown).ref))
    before = _ref(small, number)
    assert small.move().moved == 1
    after = _ref(small, number)
    changed = {name for name, value in after.to_dict().items() if before.to_dict()[name] != value}
    assert changed == {"storage_key", "backend", "location"}
    assert after.location.endswith(".csv") and after.to_dict()["colour"] == "red"
    small.manager.file(after).verify()


def test_files_go_to_the_backend_that_their_policy_has_now(small: ArchiveWorld) -> None:
    contents = small.fill(2)
    documents = StoragePolicy("documents", "archive", key_prefix="docs")
    with small.manager.override({}, {"documents": documents}):
        new = small.add(report=b"new")
        report = small.mover().move("documents")
        assert (report.moved, report.deleted) == (2, 2)
        assert small.read() == {**contents, new: b"new"}
        small.check_both()
        assert small.mover().move("documents").moved == 0


def test_refs_of_0_1_0_name_the_class_of_their_backend(small: ArchiveWorld) -> None:
    """Those of a policy's own backend are where they should be; those of another are moved."""
    disk, shelf = MemoryStorageBackend(), MemoryStorageBackend()
    shelf.backend_name = "shelf"
    numbers = small.fill(2)
    with small.manager.override(
        {"disk": disk, "shelf": shelf, "memory": small.backend, "archive": small.archive},
        {"documents": StoragePolicy("documents", "disk", key_prefix="docs")},
    ):
        for number, (backend, name) in zip(numbers, ((disk, "memory"), (shelf, "shelf")), strict=True):
            put = backend.put_bytes(key=f"docs/{number}.bin", content=b"old %d" % number)
            ref = put.replace(storage_key="documents", backend=name)
            with small.engine.begin() as connection:
                connection.execute(update(small.Document).where(small.Document.id == number).values(report=ref))
        # the manager has a backend that is called "memory", so that the name is that one's
        small.backend._objects.update(disk._objects)
        disk._objects.clear()
        report = small.mover().move("documents", from_backend="shelf")
        assert (report.moved, list(shelf.iter_locations())) == (1, [])
        assert small.mover().move("documents").moved == 1
        assert sorted(small.read().values()) == [b"old 1", b"old 2"]
        assert small.mover().move("documents").moved == 0


def test_a_class_name_that_means_the_policys_own_backend_is_no_reason_to_move(memory_engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: FileMapped[StoredFile | None] = FileColumn("notes")

    manager = StorageManager({"store": "memory://"}, {"notes": StoragePolicy("notes", "store")})
    manager.attach(Base, engine=memory_engine)
    Base.metadata.create_all(memory_engine)
    put = manager.backends["store"].put_bytes(key="notes/1.bin", content=b"old")
    with memory_engine.begin() as connection:
        connection.execute(insert(Note), {"text": put.replace(storage_key="notes")})
    assert put.backend == "memory"
    assert StorageMover(manager).move("notes").moved == 0


def test_what_cannot_be_moved_is_an_error(small: ArchiveWorld) -> None:
    mover = small.mover()
    with pytest.raises(StorageError, match="Unknown storage policy: 'reports'"):
        mover.move("reports")
    with pytest.raises(StorageError, match="Unknown storage policy: 'cellar'"):
        mover.move("documents", to="cellar")
    with pytest.raises(StorageError, match="Unknown backend: 'tape'"):
        mover.move("documents", to="archive", from_backend="tape")
    with pytest.raises(ConfigurationError, match="are where the policy has them"):
        mover.move("documents", from_backend="memory")
    for rate in (0, -1.5, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match="bytes_per_second must be above 0, and finite"):
            mover.move("documents", to="archive", bytes_per_second=rate)
    with pytest.raises(ConfigurationError, match="that the manager is attached to"):
        small.mover(MetaData())


def test_only_chosen_models_are_moved(small: ArchiveWorld) -> None:
    small.add(report=b"report")
    with small.session() as session:
        session.add(small.Author(country="nl", number=1, kind="author", contract=b"contract"))
        session.commit()
    assert StorageMover(small.manager, small.Author, engine=small.engine).move("documents", to="archive").moved == 1
    assert set(small.policies_of().values()) == {"documents"}
    assert small.mover(small.Base).move("documents", to="archive").moved == 1


def test_a_dry_run_changes_nothing(small: ArchiveWorld) -> None:
    contents = small.fill(3)
    before = small.named()
    report = small.move(dry_run=True)
    assert (report.dry_run, report.moved, report.moved_bytes) == (True, 3, 24)
    assert str(report) == "would move 3 files (24 bytes)"
    assert small.named() == before and small.read() == contents
    assert small.archive._objects == {}, "not even a mark"


# Limits


def _no_drafts(candidate: Any) -> None:
    with candidate.open() as stream:
        if b"draft" in stream.read():
            raise ValidationError("a draft")


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ({"max_size": 4}, "5 bytes, more than 4 bytes, the max_size of policy 'archive'"),
        ({"min_size": 5}, "4 bytes, fewer than 5 bytes, the min_size of policy 'archive'"),
        ({"content_types": ("image/*",)}, "it is application/octet-stream, none of image/*, the content_types"),
        ({"validators": (_no_drafts,)}, "a draft"),
    ],
)
def test_what_the_target_does_not_take_stays_and_is_named(
    small: ArchiveWorld, limit: dict[str, Any], problem: str
) -> None:
    number = small.add(report=b"draft" if "min_size" not in limit else b"four")
    with small.with_archive(**limit):
        report = small.move()
        assert (report.moved, report.skipped, report.complete) == (0, 1, False)
        (finding,) = report.findings
        assert finding.key == (number,) and problem in finding.problem and "limits=False" in finding.problem
        assert small.policies_of() == {number: "documents"}
        small.check_both()
        assert small.move(limits=False).moved == 1


def test_findings_are_bounded(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.move.report.FINDINGS_TOLD", 2)
    small.fill(4)
    with small.with_archive(max_size=1):
        report = small.move()
    assert (report.skipped, len(report.findings)) == (4, 2)


# Copies


def test_a_store_that_can_copies_by_itself(small: ArchiveWorld) -> None:
    contents = small.fill(2)
    with small.with_archive(backend_key="memory"):
        small.backend.before_put = pytest.fail
        report = small.move()
        assert (report.moved, report.on_server) == (2, 2)
        assert small.read() == contents
        small.check_both()


def test_another_checksum_needs_the_bytes(small: ArchiveWorld) -> None:
    contents = small.fill(1)
    with small.with_archive(backend_key="memory", checksum="blake2b"):
        report = small.move()
        assert (report.moved, report.on_server) == (1, 0)
        ref = _ref(small, *contents)
        assert ref.checksum.startswith("blake2b:")
        small.manager.file(ref).verify()


class _Between(MemoryStorageBackend):
    """A backend that copies from others of its class, unless it may not."""

    abilities = MemoryStorageBackend.abilities | {copying.Ability.COPY_FROM}

    def __init__(self, *, denied: bool) -> None:
        super().__init__()
        self.denied, self.asked = denied, 0

    def copies_from(self, source: object) -> bool:
        return True

    def copy_from(self, source: Any, ref: Any, *, key: str, content_type: Any = None, settings: Any = None) -> None:
        self.asked += 1
        if self.denied:
            raise BackendUnavailableError("AccessDenied")
        self._publish(key, source.get(ref))


@pytest.mark.parametrize("denied", [False, True])
def test_backends_of_one_service_copy_on_the_server_where_they_may(small: ArchiveWorld, denied: bool) -> None:
    small.manager.pool.size = 1
    contents = small.fill(3)
    between = _Between(denied=denied)
    with small.manager.override({"archive": between}, {}):
        report = small.move()
        assert (report.moved, report.on_server, between.asked) == ((3, 0, 1) if denied else (3, 3, 3))
        assert small.read() == contents


def test_from_one_bucket_to_another_no_byte_comes_here(small: ArchiveWorld, s3_bucket: Bucket) -> None:
    other = f"{s3_bucket.name[:50]}-other"
    s3_bucket.client.create_bucket(Bucket=other)
    backends = {"memory": s3_bucket.url("stored"), "archive": s3_bucket.server.url(other, "kept")}
    with small.manager.override(backends, {}):
        contents = small.fill(3)
        assert _ref(small, min(contents)).extra == {"bucket": s3_bucket.name}
        report = small.move()
        assert (report.moved, report.on_server, report.deleted) == (3, 3, 3)
        assert small.read() == contents
        assert _ref(small, min(contents)).extra == {"bucket": other}
        assert list(small.manager.backends["memory"].iter_locations()) == []
    with small.manager.override({"archive": backends["archive"]}, {}):
        documents = StoragePolicy("documents", "memory", key_prefix="docs")
        with small.manager.override({}, {"documents": documents}):
            report = small.mover().move("archive", to="documents")
            assert (report.moved, report.on_server) == (3, 0)
            assert small.read() == contents
            assert _ref(small, min(contents)).extra is None


@pytest.mark.parametrize("damage", [b"longer than it was", b"REPORT 0"])
def test_an_object_that_is_not_what_its_ref_says_is_not_moved(small: ArchiveWorld, damage: bytes) -> None:
    (number,) = small.fill(1)
    before = _ref(small, number)
    small.backend._objects[before.location] = type(small.backend._objects[before.location])(
        damage, small.backend._objects[before.location].modified
    )
    report = small.move()
    assert (report.moved, report.failed) == (0, 1) and before.location in report.findings[0].problem
    assert _ref(small, number) == before
    assert list(small.archive.iter_locations()) == []


def test_an_object_without_a_checksum_is_moved_only_if_its_size_is_right(small: ArchiveWorld) -> None:
    """0.1.0 may have recorded none."""
    right, wrong = small.fill(2)
    for number in (right, wrong):
        unchecked = _ref(small, number).replace(checksum="")
        with small.engine.begin() as connection:
            connection.execute(update(small.Document.__table__).filter_by(id=number).values(report=unchecked))
    location = unchecked.location
    small.backend._objects[location] = _Object(b"torn", datetime.now(UTC))
    report = small.move()
    assert (report.moved, report.failed) == (1, 1) and report.findings[0].key == (wrong,)
    assert small.policies_of() == {right: "archive", wrong: "documents"}
    assert len(list(small.archive.iter_locations())) == 1


def test_a_copy_that_went_wrong_is_found_by_reading_it_back(small: ArchiveWorld) -> None:
    (number,) = small.fill(1)
    with small.with_archive(backend_key="memory"):
        publish = small.backend._publish
        small.backend._publish = lambda location, content: publish(location, content.upper())  # type: ignore[method-assign]
        assert small.move(reread=True).failed == 1
        small.check_both()
        assert _ref(small, number).storage_key == "documents"
        small.backend._publish = publish  # type: ignore[method-assign]
        assert small.move(reread=True).moved == 1


@pytest.mark.parametrize(("damage", "reread"), [(b"longer than it was", False), (b"REPORT 0", True)])
def test_a_damaged_object_is_not_moved_by_a_copy_on_the_server(
    small: ArchiveWorld, damage: bytes, reread: bool
) -> None:
    """One of the same size is found by reading it back only."""
    (number,) = small.fill(1)
    before = _ref(small, number)
    kept = small.backend._objects[before.location]
    small.backend._objects[before.location] = type(kept)(damage, kept.modified)
    with small.with_archive(backend_key="memory"):
        report = small.move(reread=reread)
        assert (report.moved, report.failed, report.on_server) == (0, 1, 0)
        assert _ref(small, number) == before
        assert small.objects() == {before.location}


class _Settled(_Between):
    """A backend that is told about each object; notes what."""

    abilities = _Between.abilities | {copying.Ability.OBJECT_SETTINGS}

    def __init__(self) -> None:
        super().__init__(denied=False)
        self.told: list[tuple[str, Any, Any]] = []

    def put_stream(self, **arguments: Any) -> StoredObjectRef:
        if not is_mark(arguments["key"]):
            self.told.append(("put", arguments["content_type"], arguments.get("settings")))
        return super().put_stream(**arguments)

    def copy(self, ref: Any, *, key: str, content_type: Any = None, settings: Any = None) -> None:
        self.told.append(("copy", content_type, settings))
        super().copy(ref, key=key)

    def copy_from(self, source: Any, ref: Any, *, key: str, content_type: Any = None, settings: Any = None) -> None:
        self.told.append(("copy_from", content_type, settings))
        super().copy_from(source, ref, key=key)


@pytest.mark.parametrize("way", ["put", "copy", "copy_from"])
def test_what_the_target_policy_says_of_objects_is_told_however_they_are_copied(small: ArchiveWorld, way: str) -> None:
    settled = _Settled()
    options: dict[str, Any] = {"storage_class": "GLACIER_IR", "encryption": "SSE-S3", "tags": {"team": "archive"}}
    if way == "put":
        options["checksum"] = "blake2b"
    backends = {"archive": settled} if way != "copy" else {"archive": settled, "memory": settled}
    with small.with_archive(**options), small.manager.override(backends, {}):
        small.add(report=Upload(b"a,b\n1,2\n", "table.csv", "text/csv"))
        settled.told.clear()
        assert small.move().moved == 1
        assert settled.told == [(way, "text/csv", small.manager.get_policy("archive").settings)]
        assert settled.told[0][2].storage_class == "GLACIER_IR"


def test_a_missing_object_is_named_and_the_others_are_moved(small: ArchiveWorld) -> None:
    first, second = small.fill(2)
    del small.backend._objects[_ref(small, first).location]
    report = small.move()
    assert (report.moved, report.failed, report.findings[0].key) == (1, 1, (first,))
    assert small.policies_of() == {first: "documents", second: "archive"}


def test_a_store_that_is_down_is_not_asked_for_every_file(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_FAILURES", 3)
    monkeypatch.setattr(run, "BATCH", 2)
    contents = small.fill(10)
    asked: list[str] = []

    def fail(key: str) -> None:
        asked.append(key)
        raise BackendUnavailableError("the store is down")

    small.archive.before_put = fail
    report = small.move()
    assert (report.moved, report.failed, len(asked)) == (0, 4, 4)
    assert any("run the move again" in one for one in report.refused) and not report.complete
    small.archive.before_put = lambda key: None
    assert small.move().moved == 10
    assert small.read() == contents


def test_failures_are_counted_from_the_last_success_on(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_FAILURES", 3)
    monkeypatch.setattr(run, "BATCH", 1)
    small.fill(9)
    puts = itertools.count(1)

    def fail(key: str) -> None:
        if next(puts) % 3:
            raise BackendUnavailableError("the store is slow")

    small.archive.before_put = fail
    report = small.move()
    assert (report.moved, report.failed, report.refused) == (3, 6, [])


def test_a_copy_that_took_too_long_is_given_up(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fill(1)
    monkeypatch.setattr(batch, "is_too_old", lambda manager, location: True)
    report = small.move()
    assert (report.moved, report.failed) == (0, 1) and "grace period" in report.findings[0].problem
    small.check_both()


def test_an_interrupt_leaves_nothing_behind_and_the_next_run_goes_on(
    small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", 2)
    small.manager.pool.size = 1
    contents = small.fill(5)
    keys = itertools.count()

    def interrupt(key: str) -> None:
        if next(keys) == 3:
            raise KeyboardInterrupt

    small.archive.before_put = interrupt
    with pytest.raises(KeyboardInterrupt):
        small.move()
    small.check_both()
    assert sorted(small.policies_of().values()) == ["archive"] * 2 + ["documents"] * 3
    assert small.move().moved == 3
    assert small.read() == contents


# Rows, and what they named


def test_a_policy_retains_what_is_moved_away(small: ArchiveWorld) -> None:
    contents = small.fill(1)
    documents = StoragePolicy("documents", "memory", key_prefix="docs", retain=timedelta(days=7))
    with small.manager.override({}, {"documents": documents}):
        report = small.move()
        assert (report.moved, report.deleted) == (1, 0)
        assert len(small.objects()) == 1 and len(freed(small)) == 1
        small.sweep_all()
        assert len(small.objects()) == 1
    assert small.read() == contents


@pytest.fixture
def bare(memory_engine: Engine) -> Any:
    """A model without an outbox, with a column that each update of a row sets."""

    class Base(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        updated: Mapped[str | None] = mapped_column(onupdate="updated")
        text: FileMapped[StoredFile | None] = FileColumn("notes")

    class Loose(Base):
        __tablename__ = "loose"
        name: Mapped[str] = mapped_column()
        text: FileMapped[StoredFile | None] = FileColumn("notes")
        __mapper_args__ = {"primary_key": [name]}

    manager = StorageManager(
        {"store": "memory://"}, {name: StoragePolicy(name, "store") for name in ("notes", "archive")}, owner="tests"
    )
    manager.attach(Base, engine=memory_engine)
    Base.metadata.create_all(memory_engine)
    return manager, Note, Loose


def test_without_an_outbox_old_objects_go_after_the_commit(bare: Any, memory_engine: Engine) -> None:
    manager, Note, _ = bare
    with Session(memory_engine) as session:
        session.add(Note(text=b"note"))
        session.commit()
    report = StorageMover(manager).move("notes", to="archive")
    assert (report.moved, report.deleted) == (1, 1)
    locations = [one for one in manager.backends["store"].iter_locations() if not is_mark(one)]
    assert [one.split("/")[0] for one in locations] == ["archive"]


def test_a_move_is_no_update_to_the_application(bare: Any, memory_engine: Engine) -> None:
    manager, Note, _ = bare
    with Session(memory_engine) as session:
        session.add(Note(text=b"note", updated="never"))
        session.commit()
        assert StorageMover(manager).move("notes", to="archive").moved == 1
        assert session.scalars(select(Note.updated)).one() == "never"


@pytest.mark.databases("mariadb")
def test_what_the_database_sets_at_each_update_stays(world: ArchiveWorld) -> None:
    on_update = text("'2001-02-03 04:05:06' ON UPDATE CURRENT_TIMESTAMP")
    table = Table(
        "stamped",
        world.Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("report", StoredObjectRefType("documents")),
        Column("updated", DateTime, server_default=on_update, server_onupdate=FetchedValue()),
    )
    table.create(world.engine)
    with world.engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "report": world.manager.store("documents", b"stamped").ref})
    assert world.move().moved == 1
    with world.engine.connect() as connection:
        assert connection.scalar(select(table.c.updated)) == datetime(2001, 2, 3, 4, 5, 6)


def test_a_table_without_a_primary_key_is_refused(bare: Any, memory_engine: Engine) -> None:
    manager, _, Loose = bare
    with memory_engine.begin() as connection:
        connection.execute(insert(Loose), {"name": "a", "text": manager.store("notes", b"loose").ref})
    report = StorageMover(manager).move("notes", to="archive")
    assert report.moved == 0 and "loose.text: its table has no primary key" in report.refused[0]
    make = partial(StorageMover, manager)
    assert make().move("notes", to="archive", executor=LaterExecutor(), make=make) == report


@pytest.fixture
def odd(memory_engine: Engine) -> Any:
    """A table that lets its primary key be NULL, as one that SQLAlchemy has not made may."""

    class Base(DeclarativeBase):
        pass

    class Odd(Base):
        __tablename__ = "odd"
        name: Mapped[str] = mapped_column(primary_key=True)
        text: FileMapped[StoredFile | None] = FileColumn("notes")

    manager = StorageManager(
        {"store": "memory://"}, {name: StoragePolicy(name, "store") for name in ("notes", "archive")}
    )
    manager.attach(Base, engine=memory_engine)
    with memory_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE odd (name TEXT PRIMARY KEY, text JSON)")
    Base.metadata.create_all(memory_engine)
    with memory_engine.begin() as connection:
        for name in (None, "b", None, "c", "a"):
            connection.execute(insert(Odd), {"name": name, "text": manager.store("notes", b"odd").ref})
        connection.execute(insert(Odd), {"name": None, "text": None})
    return manager


@pytest.mark.parametrize("in_parts", [False, True])
def test_rows_whose_key_is_null_are_counted_and_the_others_are_moved(
    odd: Any, monkeypatch: pytest.MonkeyPatch, in_parts: bool
) -> None:
    monkeypatch.setattr(run, "BATCH", 1)
    monkeypatch.setattr(rows, "STRETCH", 2)
    make = partial(StorageMover, odd)
    options: dict[str, Any] = {"executor": LaterExecutor(), "make": make, "parts": 2} if in_parts else {}
    report = make().move("notes", to="archive", **options)
    assert (report.moved, report.failed, report.complete) == (3, 0, False)
    (refused,) = report.refused
    assert refused.startswith("odd.text: 2 rows with a primary key that is NULL")
    assert str(StorageVerifier(odd).verify()) == "verified 5 rows and 5 objects: all is well"


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("in_parts", [False, True])
def test_rows_whose_key_is_an_enum_are_all_moved(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch, in_parts: bool
) -> None:
    """MariaDB puts them in the order of their declaration, and compares them as texts."""
    monkeypatch.setattr(run, "BATCH", 2)
    monkeypatch.setattr(rows, "STRETCH", 3)
    monkeypatch.setattr(parallel, "LEAST", 2)
    table = Table(
        "listed",
        world.Base.metadata,
        Column("kind", Enum(*"zamby", name="kinds"), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("report", StoredObjectRefType("documents")),
    )
    table.create(world.engine)
    ref = world.manager.store("documents", b"listed").ref
    with world.engine.begin() as connection:
        named = [{"kind": kind, "number": number, "report": ref} for kind in "zamby" for number in range(3)]
        connection.execute(insert(table), named)
    options: dict[str, Any] = {"executor": LaterExecutor(), "make": world.mover, "parts": 3} if in_parts else {}
    assert world.move(**options).moved == 15


@pytest.mark.databases("postgresql", "mariadb")
def test_a_table_whose_key_tells_no_rows_is_refused_and_the_others_are_moved(world: ArchiveWorld) -> None:
    kind = postgresql.ARRAY(Integer) if world.engine.dialect.name == "postgresql" else mysql.SET("a", "b")
    table = Table(
        "listed",
        world.Base.metadata,
        Column("key", kind, primary_key=True),
        Column("report", StoredObjectRefType("documents")),
    )
    table.create(world.engine)
    value: Any = [1] if world.engine.dialect.name == "postgresql" else {"a"}
    with world.engine.begin() as connection:
        connection.execute(insert(table), {"key": value, "report": world.manager.store("documents", b"listed").ref})
    world.fill(2)
    report = world.move()
    assert report.moved == 2
    (refused,) = report.refused
    assert refused.startswith("listed.report: its primary key is ") and "'key'" in refused


def test_another_owners_files_are_not_moved_and_the_target_is_marked(bare: Any, memory_engine: Engine) -> None:
    manager, Note, _ = bare
    with Session(memory_engine) as session:
        session.add(Note(text=b"note"))
        session.commit()
    StorageMover(manager).move("notes", to="archive")
    backend = manager.backends["store"]
    assert len(manager.ownership.databases(backend, "archive")) == 1
    staging = StorageManager({"store": backend}, manager.policies, owner="staging")
    for table in Note.metadata.tables.values():
        table.metadata.info.pop("granite_storage.manager", None)
    staging.attach(Note, engine=memory_engine)
    with pytest.raises(OwnershipError, match="belongs to the owner 'tests'"):
        StorageMover(staging).move("archive", to="notes")


# Pace


def test_a_move_keeps_to_its_pace(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fill(6)
    clock = _Clock()
    monkeypatch.setattr(pace, "time", clock)
    assert small.move(objects_per_second=2).moved == 6
    assert clock.now == 2, "the last two are not waited for"
    assert max(clock.naps) <= 1


def test_bytes_are_counted_by_the_second(small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        small.add(report=bytes(100))
    clock = _Clock()
    monkeypatch.setattr(pace, "time", clock)
    assert small.move(bytes_per_second=10).moved == 3
    assert clock.now == 20
    assert Pace(bytes_per_second=10).most_bytes(1000) == 10
    assert Pace(objects_per_second=0.1).most_objects(1000) == 1


@pytest.mark.parametrize("parts", [1, 2])
def test_parts_keep_to_their_share_of_the_pace_to_their_end(
    small: ArchiveWorld, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """They are done one after the other here: a table is one part, or two of two documents each."""
    monkeypatch.setattr(parallel, "LEAST", 2)
    small.fill(4)
    with small.session() as session:
        session.add(small.Author(country="nl", number=1, kind="author", contract=b"contract"))
        session.commit()
    clock = _Clock()
    monkeypatch.setattr(pace, "time", clock)
    options: dict[str, Any] = {"executor": LaterExecutor(), "make": small.mover, "parts": parts}
    assert small.move(objects_per_second=2, **options).moved == 5
    assert clock.now == pytest.approx(5 / 2 * parts)


class _Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def test_what_a_declared_reference_names_stays_beside_its_copy(small: ArchiveWorld) -> None:
    small.fill(2)
    kept, _ = sorted(small.objects())
    small.manager.add_references(lambda: [StoredObjectRef("documents", "memory", kept, 8, "")])
    report = small.move()
    assert (report.moved, report.deleted) == (2, 1) and small.objects() == {kept}
