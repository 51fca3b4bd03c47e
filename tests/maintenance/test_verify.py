"""Verification finds what is wrong in both directions, and nothing else."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, MetaData, String, create_engine, event, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    Upload,
    metadata_options,
)
from granite_storage.backends.base import Ability, ObjectInfo
from granite_storage.backends.memory import _Object
from granite_storage.exceptions import BackendError, ConfigurationError, ReplicaError, StorageError
from granite_storage.maintenance.verify import both_sides
from granite_storage.maintenance.verify.naming import END, RowSpool
from granite_storage.maintenance.verify.orphans import Orphans
from granite_storage.orm.outbox import outbox_of
from granite_storage.stats import storage_stats
from granite_storage.verify import Finding, FindingKind, StorageVerifier, VerifyReport
from tests.databases import Database
from tests.maintenance.ages import HOUR, TELL_NONE, put_old
from tests.maintenance.watching import asked, assert_served_by_index, waiting_transaction
from tests.orm.worlds import World, in_thread

DAY = timedelta(days=1)


class Found(list[Finding]):
    """The findings of one verification, and its report."""

    report: VerifyReport

    @property
    def kinds(self) -> list[str]:
        return sorted(one.kind.value for one in self)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return sorted((one.kind.value, one.table, one.column, one.key) for one in self)


def _verify(
    world: World, *, engine: Any = None, models: Any = None, grace: timedelta | None = None, **how: Any
) -> Found:
    found = Found()
    verifier = StorageVerifier(world.manager, models, engine=engine or world.engine, grace=grace, found=found.append)
    found.report = verifier.verify(**how)
    assert found.report.counts.total() == len(found)
    return found


def _ref(location: str, backend: str = "memory", policy: str = "documents", size: int = 3) -> StoredObjectRef:
    return StoredObjectRef(policy, backend, location, size, "")


def _insert(world: World, **values: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(insert(world.Document.__table__), values)


def _location(world: World, key: int, field: str = "report") -> str:
    with world.session() as session:
        location: str = getattr(session.get_one(world.Document, key), field).location
        return location


def _outbox(world: World) -> list[str]:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.connect() as connection:
        return sorted(connection.scalars(select(outbox.c.location)))


# What it finds


def test_where_all_is_well_it_finds_nothing_and_changes_nothing(world: World) -> None:
    world.add(report=b"report", scan=b"scan", cover=b"cover")
    with world.session() as session:
        session.add(world.Author(country="nl", number=1, kind="author", photo=b"photo", contract=b"contract"))
        session.commit()
    world.add()
    before = dict(world.backend._objects)
    for deep in (False, True):
        found = _verify(world, deep=deep)
        assert (found, found.report.rows, found.report.objects) == ([], 5, 5)
        assert (found.report.status, found.report.exit_status, found.report.complete) == ("clean", 0, True)
        assert found.report.bytes_read == (28 if deep else 0)
    assert str(found.report) == "verified 5 rows and 5 objects (28 bytes read): all is well"
    assert world.backend._objects == before


def test_it_finds_objects_that_are_missing_and_of_another_size_and_says_whose(world: World) -> None:
    keys = [world.add(report=b"report", scan=b"scan") for _ in range(4)]
    with world.session() as session:
        author = world.Author(country="nl", number=7, kind="author", photo=b"photo", contract=b"contract")
        session.add(author)
        session.commit()
        contract = author.contract.location
    gone, torn = _location(world, keys[1]), _location(world, keys[2], "scan")
    for location in (gone, contract):
        del world.backend._objects[location]
    world.backend._objects[torn] = _Object(b"sca", datetime.now(UTC))
    found = _verify(world)
    assert found.rows == [
        ("missing", "author", "contract", ("nl", 7)),
        ("missing", "document", "report", (keys[1],)),
        ("size", "document", "scan", (keys[2],)),
    ]
    by_row = {one.table: one for one in found if one.kind is FindingKind.MISSING}
    assert (by_row["document"].backend, by_row["document"].location) == ("memory", gone)
    assert next(one.detail for one in found if one.kind is FindingKind.SIZE) == "the row says 4 bytes, and 3 are there"
    assert (found.report.found, found.report.needs_person, found.report.repaired) == (3, 3, 0)
    assert (found.report.status, found.report.exit_status, found.report.complete) == ("found", 1, True)
    assert str(found.report) == "verified 10 rows and 8 objects: 2 missing, 1 of another size"


def test_only_a_deep_look_finds_content_that_is_another(world: World) -> None:
    keys = [world.add(report=content) for content in (b"whole", b"wrong", b"whole", b"empty")]
    world.backend._objects[_location(world, keys[1])] = _Object(b"WRONG", datetime.now(UTC))
    with world.session() as session:
        ref = session.get_one(world.Document, keys[3]).report.ref
    with world.engine.begin() as connection:
        table: Any = world.Document.__table__
        connection.execute(update(table).where(table.c.id == keys[3]).values(report=ref.replace(checksum="crc7:00")))
    assert _verify(world) == []
    found = _verify(world, deep=True)
    assert found.rows == [
        ("checksum", "document", "report", (keys[1],)),
        ("no-checksum", "document", "report", (keys[3],)),
    ]
    assert "another sha256" in found[0].detail or "another sha256" in found[1].detail
    assert found.report.bytes_read == 4 * 5  # the wrong one twice, to be sure


def test_a_location_that_several_rows_name_is_one_finding(world: World) -> None:
    keys = [world.add(report=b"own") for _ in range(3)]
    with world.session() as session:
        ref = session.get_one(world.Document, keys[1]).report.ref
    for number in range(10):
        _insert(world, id=50 + number, **{"report" if number % 2 else "scan": ref})
    _insert(world, id=80, cover=ref)
    (shared,) = _verify(world)
    assert (shared.kind, shared.location) == (FindingKind.SHARED, ref.location)
    assert shared.detail.count("document.") == 4 and shared.detail.endswith("7 more") and not shared.repairable


def test_a_location_that_rows_of_two_databases_name_is_found(world: World, memory_engine: Engine) -> None:
    world.add(report=b"here")
    key = world.add(report=b"shared")
    with world.session() as session:
        ref = session.get_one(world.Document, key).report.ref
    world.Base.metadata.create_all(memory_engine)
    with Session(memory_engine) as session:
        session.add(world.Document(report=b"there"))
        session.commit()
    with memory_engine.begin() as connection:
        connection.execute(insert(world.Document.__table__), {"id": 9, "scan": ref})
    found = _verify(world, engine=[world.engine, memory_engine])
    assert found.kinds == ["shared"] and found.report.rows == 4
    assert "document.scan (9,)" in found[0].detail


@pytest.mark.parametrize("value", [{"legacy_inline_text": "hello"}, {"size": 3}, [1], "docs/x", 7, *TELL_NONE])
def test_a_value_that_tells_no_location_is_found(world: World, value: Any) -> None:
    world.add(report=b"kept")
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        for key, content in ((7, json.dumps(value)), (8, "null")):
            connection.execute(text(f"INSERT INTO document (id, scan) VALUES ({key}, (:v){kind})"), {"v": content})
    for deep in (False, True):
        found = _verify(world, deep=deep)
        assert found.rows == [("unreadable", "document", "scan", (7,))] and found[0].detail


@pytest.mark.parametrize("size", [-1, "many", None, 2.5])
def test_a_broken_value_that_tells_a_location_is_found(world: World, size: Any) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 30 * DAY)
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    value = json.dumps({"location": location, "size": size, "backend": "memory"})
    with world.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO document (id, scan) VALUES (7, (:value){kind})"), {"value": value})
    for deep in (False, True):
        found = _verify(world, deep=deep)
        assert found.rows == [("unreadable", "document", "scan", (7,))] and found[0].location == location


def test_a_database_that_several_engines_lead_to_is_read_once(world: World) -> None:
    world.add(report=b"kept", cover=b"cover")
    again = create_engine(world.engine.url)
    found = _verify(world, engine=[world.engine, again])
    assert (found, found.report.rows) == ([], 2)
    assert storage_stats(world.manager, engine=[world.engine, again]).total.count == 2
    again.dispose()


@pytest.mark.databases("postgresql")
def test_a_table_is_the_same_with_its_schema_and_without(engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    class Public(DeclarativeBase):
        metadata = MetaData(schema="public")

    for base in (Base, Public):
        columns = {"__tablename__": "letter", "id": mapped_column(Integer, primary_key=True)}
        type("Letter", (base,), {**columns, "report": FileColumn("documents")})
    manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("documents", "memory")})
    manager.attach(Base, Public, engine=engine)
    Base.metadata.create_all(engine)
    ref = manager.store("documents", b"letter").ref
    with engine.begin() as connection:
        connection.execute(insert(Base.metadata.tables["letter"]), {"id": 1, "report": ref})
    report = StorageVerifier(manager).verify()
    assert (report.rows, report.found) == (1, 0)
    assert storage_stats(manager).total.count == 1


MISSHAPEN = [
    {"size": True},
    {"size": "3"},
    {"storage_key": None},
    {"checksum": 5},
    {"content_type": 5},
    {"extra": [1]},
    {"original_filename": {}},
]


@pytest.mark.parametrize("members", MISSHAPEN, ids=str)
def test_what_is_no_ref_for_another_member_is_found_by_reading(world: World, members: dict[str, Any]) -> None:
    location = put_old(world.backend, 30 * DAY)
    sound = {"storage_key": "documents", "backend": "memory", "location": location, "size": 3, "checksum": ""}
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        statement = text(f"INSERT INTO document (id, scan) VALUES (7, (:value){kind})")
        connection.execute(statement, {"value": json.dumps(sound | members)})
    found = _verify(world, deep=True)
    assert found.rows == [("unreadable", "document", "scan", (7,))] and found[0].location == location


@pytest.mark.databases("postgresql")
def test_a_repair_with_a_shorter_grace_period_is_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    _verify(world, grace=HOUR)
    assert not caplog.records
    _verify(world, grace=HOUR, repair=True)
    assert "transactions that are still open" in caplog.text


@pytest.mark.databases("mariadb")
def test_a_size_of_very_many_digits_is_no_number(world: World) -> None:
    location = put_old(world.backend, 30 * DAY)
    value = f'{{"backend": "memory", "location": "{location}", "size": {"9" * 5000}}}'
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO document (id, scan) VALUES (7, :value)"), {"value": value})
    assert _verify(world).rows == [("unreadable", "document", "scan", (7,))]


def test_a_backend_that_the_manager_does_not_have_is_found_once_a_row(world: World) -> None:
    location = put_old(world.backend, 30 * DAY)
    _insert(world, id=1, report=_ref(location, "disk"))
    _insert(world, id=2, report=_ref("elsewhere/x", "disk"))
    backends = {"memory": world.backend, "archive": MemoryStorageBackend(), "third": MemoryStorageBackend()}
    with world.manager.override(backends, world.manager.policies):
        found = _verify(world)
    assert found.rows == [("unknown-backend", "document", "report", (key,)) for key in (1, 2)]
    assert {one.backend for one in found} == {"disk"}


def test_refs_of_0_1_0_name_the_class_of_a_backend(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStorageBackend, "backend_name", "class")  # no name that the manager has
    key = world.add(report=b"kept")
    with world.session() as session:
        ref = session.get_one(world.Document, key).report.ref
    there, missing = ref.replace(backend="class"), _ref("docs/2020/01/01/x", "class")
    table: Any = world.Document.__table__
    with world.manager.override(
        {"store": world.backend, "other": MemoryStorageBackend()},  # which of them, only the policy tells
        {"documents": StoragePolicy("documents", "store", key_prefix="docs")},
    ):
        with world.engine.begin() as connection:
            connection.execute(update(table).values(report=there))
        _insert(world, id=9, report=missing)
        found = _verify(world)
        assert found.rows == [("missing", "document", "report", (9,))]
    with world.manager.override(
        {"store": world.backend, "other": (other := MemoryStorageBackend())},
        {
            "documents": StoragePolicy("documents", "store", key_prefix="docs"),
            "covers": StoragePolicy("covers", "other"),
        },
    ):
        orphan = put_old(world.backend, 30 * DAY)
        other._objects[orphan] = _Object(b"old", datetime.now(UTC))
        _insert(world, id=10, cover=_ref(orphan, "class", "covers"))  # the other one, by its policy
        assert [(one.kind.value, one.backend) for one in _verify(world) if one.table is None] == [("orphan", "store")]


def test_what_rows_name_outside_of_every_prefix_is_looked_at(world: World) -> None:
    archive = MemoryStorageBackend()
    world.add(report=b"kept")
    for location in ("a/x", "docs", "docs0", "docs-old/x", "zzz/x"):
        world.backend._objects[location] = _Object(b"old", datetime.now(UTC))
    archive._objects["docs/x"] = _Object(b"old", datetime.now(UTC))
    with world.manager.override({"memory": world.backend, "archive": archive}, world.manager.policies):
        for number, location in enumerate(("a/x", "docs", "docs0", "docs-old/x", "zzz/x")):
            _insert(world, id=10 + number, report=_ref(location))
        _insert(world, id=20, report=_ref("docs/x", "archive"))
        found = _verify(world)
        assert found == [] and found.report.rows == 7
        _insert(world, id=30, report=_ref("b/x"))
        _insert(world, id=31, report=_ref("docs/y", "archive"))
        _insert(world, id=32, report=_ref("docs/x"))
        _insert(world, id=33, report=_ref("../x"))
        assert [row[3] for row in _verify(world).rows] == [(30,), (31,), (32,), (33,)]


def test_orphans_are_found_and_young_retained_undeclared_and_declared_ones_are_none(world: World) -> None:
    retaining = StoragePolicy("documents", "memory", key_prefix="docs", retain=DAY)
    with world.manager.override({"memory": world.backend}, {**world.manager.policies, "documents": retaining}):
        world.add(report=b"kept")
        key = world.add(report=b"retained")
        with world.session() as session:
            session.delete(session.get_one(world.Document, key))
            session.commit()
        orphan = put_old(world.backend, 30 * DAY)
        put_old(world.backend, 23 * HOUR)
        put_old(world.backend, 30 * DAY, modified=HOUR)
        world.backend._objects["docs/page/2-deadbeef.txt"] = _Object(b"foreign", datetime.now(UTC) - 40 * DAY)
        put_old(world.backend, 30 * DAY, prefix="docs-old")
        (found,) = both = _verify(world)
        assert (found.kind, found.location, found.table, found.key) == (FindingKind.ORPHAN, orphan, None, ())
        report = both.report
        assert (report.young, report.awaiting, report.undeclared) == (2, 1, 1)
        assert (report.found, report.needs_person, report.status) == (1, 0, "found")
        world.manager.add_references(lambda: [_ref(orphan)])
        (found,) = both = _verify(world)
        assert (found.location, both.report.undeclared) == ("docs/page/2-deadbeef.txt", 0)
    with pytest.raises(ConfigurationError, match="not 'document'"):
        StorageVerifier(world.manager, "document")  # type: ignore[arg-type]


def test_declared_references_are_asked_once_for_all_that_they_name(world: World) -> None:
    world.add(report=b"kept")
    declared = [_ref(put_old(world.backend, 30 * DAY)) for _ in range(3)]
    asked = []

    def iter_references() -> list[StoredObjectRef]:
        asked.append("once")
        return declared

    world.manager.add_references(iter_references)
    assert _verify(world) == [] and asked == ["once"]


def test_one_policy_alone_can_be_verified(world: World) -> None:
    key = world.add(report=b"report", cover=b"cover")
    former = StoragePolicy("documents", "memory", key_prefix="papers", former_prefixes=("docs",))
    for field in ("report", "cover"):
        del world.backend._objects[_location(world, key, field)]
    put_old(world.backend, 30 * DAY, prefix="covers")
    assert _verify(world, storage_key="covers").kinds == ["missing", "orphan"]
    with world.manager.override({"memory": world.backend}, {**world.manager.policies, "documents": former}):
        assert _verify(world, storage_key="documents").rows == [("missing", "document", "report", (key,))]
    with pytest.raises(StorageError, match="Unknown storage policy: 'reports'"):
        _verify(world, storage_key="reports")


def test_every_column_of_the_models_it_is_given_is_read(world: World) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    class Page(Other):
        __tablename__ = "page"
        id: Mapped[str] = mapped_column(String(20), primary_key=True)
        plain: Mapped[Any] = mapped_column(StoredObjectRefType(), nullable=True)
        unindexed: FileMapped[StoredFile | None] = FileColumn("documents", location_index=False)

    class Later(Other):
        __tablename__ = "not_yet_migrated"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    Other.metadata.create_all(
        world.engine, [table for table in Other.metadata.tables.values() if table.name != "not_yet_migrated"]
    )
    named = [put_old(world.backend, 30 * DAY) for _ in range(2)]
    with world.engine.begin() as connection:
        for key in ("a", "B", "é"):
            connection.execute(insert(Page.__table__), {"id": key, "plain": _ref(f"docs/{key}"), "unindexed": None})
        connection.execute(insert(Page.__table__), {"id": "z", "plain": _ref(named[0]), "unindexed": _ref(named[1])})
    found = _verify(world, models=Other)
    assert found.kinds == ["missing"] * 3 and {one.key for one in found} == {("a",), ("B",), ("é",)}
    with world.engine.begin() as connection:  # told apart by case, whatever the collation, and with no index
        for key, location in (("1", named[1].upper()), ("2", "docs/x"), ("3", "docs/X")):
            connection.execute(insert(Page.__table__), {"id": key, "plain": None, "unindexed": _ref(location)})
    assert {one.key[0] for one in _verify(world, models=Other) if one.column == "unindexed"} == {"1", "2", "3"}
    Other.metadata.drop_all(world.engine)


def test_findings_hold_no_filename(world: World) -> None:
    key = world.add(report=Upload(b"secret", filename="secret-merger.pdf"), scan=Upload(b"x", filename="secret-y.pdf"))
    del world.backend._objects[_location(world, key)]
    world.backend._objects[_location(world, key, "scan")] = _Object(b"yy", datetime.now(UTC))
    found = _verify(world, deep=True)
    assert len(found) == 2 and "secret" not in "".join(map(str, found)) + json.dumps(found.report.to_dict())


def test_findings_and_report_are_json(world: World) -> None:
    _insert(world, id=1, report=_ref("docs/gone"))
    found = _verify(world)
    told = json.loads(json.dumps(found.report.to_dict()))
    assert (told["status"], told["rows"], told["counts"]["missing"], told["counts"]["orphan"]) == ("found", 1, 1, 0)
    assert told["findings"] == [
        {
            "kind": "missing",
            "table": "document",
            "column": "report",
            "key": [1],
            "backend": "memory",
            "location": "docs/gone",
            "detail": "",
            "remedy": found[0].remedy,
        }
    ]


def test_the_report_keeps_the_first_hundred_and_the_callback_gets_all(world: World) -> None:
    with world.engine.begin() as connection:
        rows = [{"id": number, "report": _ref(f"docs/{number:04}")} for number in range(1, 151)]
        connection.execute(insert(world.Document.__table__), rows)
    found = _verify(world)
    assert (len(found), len(found.report.findings), found.report.counts["missing"]) == (150, 100, 150)  # type: ignore[index]


# What changes meanwhile


def test_a_file_that_is_replaced_meanwhile_is_neither_missing_nor_left_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [world.add(report=b"first") for _ in range(3)]
    order = RowSpool.order

    def replace(self: RowSpool) -> None:
        order(self)
        with world.session() as session:  # all rows were read, and nothing is listed yet
            session.get_one(world.Document, keys[0]).report = b"second"
            session.delete(session.get_one(world.Document, keys[1]))
            session.add(world.Document(report=b"new"))
            session.commit()

    monkeypatch.setattr(RowSpool, "order", replace)
    assert _verify(world, deep=True, grace=timedelta(0)) == []


def test_rows_are_asked_for_beside_the_listing_where_that_costs_little(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"report", cover=b"cover")
    world.add(report=b"report")
    put_old(world.backend, 30 * DAY)
    spooled: list[int] = []
    order = RowSpool.order

    def count(self: RowSpool) -> None:
        order(self)
        spooled.append(self.count("", END, {"memory"}))

    monkeypatch.setattr(RowSpool, "order", count)
    assert _verify(world).kinds == ["orphan"]
    # PostgreSQL's index is in the order of a language
    assert spooled == [3 if world.engine.dialect.name == "postgresql" else 0]
    # each row would be asked for once for each backend
    backends = {"memory": world.backend, "archive": MemoryStorageBackend()}
    with world.manager.override(backends, world.manager.policies):
        assert _verify(world).kinds == ["orphan"]
    assert spooled[1:] == [3]


def test_the_rows_beside_a_listing_are_served_by_the_index(world: World) -> None:
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(50))
        session.commit()
    with asked(world.engine, lambda text: "document" in text and "LIMIT" in text and ">" in text) as statements:
        assert _verify(world) == []
    if world.engine.dialect.name != "postgresql":  # whose index is in the order of a language
        assert_served_by_index(world.engine, statements)


def test_a_file_that_is_freed_after_it_was_listed_is_no_orphan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = world.add(report=b"first")
    world.add(report=b"other")
    first, compare = _location(world, key), both_sides.compare

    def delete(*arguments: Any, **options: Any) -> Any:
        done = compare(*arguments, **options)
        if first in done.listed:
            done.odd.add(first)
            with world.session() as session:
                session.delete(session.get_one(world.Document, key))
                session.commit()
        return done

    monkeypatch.setattr(both_sides, "compare", delete)
    assert _verify(world, grace=timedelta(0)) == []


def test_a_file_that_is_replaced_while_it_is_read_is_not_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = world.add(report=b"first")
    world.add(report=b"other")
    first = _location(world, key)
    opened = world.backend.open
    reads = []

    def open_(ref: StoredObjectRef) -> Any:
        if ref.location == first:
            reads.append(ref)
            if len(reads) == 1:  # so that it is judged
                return opened(_ref(_location(world, key + 1)))
            with world.session() as session:
                session.get_one(world.Document, key).report = b"second"
                session.commit()
        return opened(ref)

    monkeypatch.setattr(world.backend, "open", open_)
    assert _verify(world, deep=True) == [] and len(reads) == 2


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("repair", [False, True])
def test_beside_writers_it_finds_nothing_and_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch, repair: bool
) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 3)
    keys = [world.add(report=b"first", scan=b"scan") for _ in range(10)]

    def write() -> None:
        for number in range(60):
            with world.session() as session:
                document = session.get_one(world.Document, keys[number % 10])
                if number % 3:
                    document.report = f"{number}".encode()
                else:
                    document.scan = None if document.scan else b"again"
                session.add(world.Document(cover=b"new"))
                session.commit()

    join = in_thread(write)
    found = [_verify(world, deep=True, repair=repair) for _ in range(6)]
    join()
    assert [one for some in found for one in some] == []
    assert all(some.report.complete for some in found)
    assert _verify(world, deep=True) == [] and _outbox(world) == []
    world.check()


def test_no_transaction_is_open_while_the_store_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(5))
        session.commit()
    open_then = []
    listed, opened, stat = world.backend.iter_objects, world.backend.open, world.backend.stat
    del world.backend._objects[_location(world, 1)]

    def iter_objects(*arguments: Any, **options: Any) -> Iterator[ObjectInfo]:
        for one in listed(*arguments, **options):
            open_then.append(world.engine.pool.checkedout())  # type: ignore[attr-defined]
            yield one

    def noting(call: Any) -> Any:
        def note(ref: StoredObjectRef) -> Any:
            open_then.append(world.engine.pool.checkedout())  # type: ignore[attr-defined]
            return call(ref)

        return note

    monkeypatch.setattr(world.backend, "iter_objects", iter_objects)
    monkeypatch.setattr(world.backend, "open", noting(opened))
    monkeypatch.setattr(world.backend, "stat", noting(stat))
    assert _verify(world, deep=True).kinds == ["missing"]
    assert len(open_then) >= 4 + 4 + 1 and set(open_then) == {0}


# Repair


def test_a_repair_hands_orphans_to_the_outbox_and_leaves_the_rest_to_a_person(world: World) -> None:
    keys = [world.add(report=b"kept") for _ in range(3)]
    del world.backend._objects[_location(world, keys[0])]
    torn = _location(world, keys[1])
    world.backend._objects[torn] = _Object(b"torn!", datetime.now(UTC))
    orphans = [put_old(world.backend, 30 * DAY), put_old(world.backend, 30 * DAY, prefix="covers")]
    young = put_old(world.backend, HOUR)
    before = world.objects()
    found = _verify(world, repair=True)
    assert found.kinds == ["missing", "orphan", "orphan", "size"]
    assert (found.report.repaired, found.report.needs_person, found.report.exit_status) == (2, 2, 1)
    assert world.objects() == before and _outbox(world) == sorted(orphans)
    assert str(found.report).endswith("1 of another size, 2 orphan; 2 repaired")
    again = _verify(world, repair=True)
    assert (again.kinds, again.report.awaiting, again.report.repaired) == (["missing", "size"], 2, 0)
    assert world.manager.sweep(world.engine).freed == 2
    assert world.objects() == before - set(orphans) and young in world.objects()


def test_where_all_was_repaired_it_is_clean(world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    assert _verify(world).report.exit_status == 1
    assert _verify(world, repair=True).report.exit_status == 0


def test_an_orphan_that_is_named_meanwhile_is_not_handed_to_the_outbox(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 30 * DAY)
    hand_over = Orphans.hand_over

    def adopt(self: Any, *, force: bool) -> None:
        _insert(world, id=99, scan=_ref(location))
        hand_over(self, force=force)

    monkeypatch.setattr(Orphans, "hand_over", adopt)
    assert (_verify(world, repair=True).report.repaired, _outbox(world)) == (0, [])


def test_rows_of_the_outbox_that_are_not_true_are_found_and_removed(world: World) -> None:
    key = world.add(report=b"kept")
    named, gone, free = _location(world, key), "docs/2020/01/01/gone", put_old(world.backend, 30 * DAY)
    outbox: Any = outbox_of(world.Base.metadata)
    later = datetime.now(UTC) + DAY
    with world.engine.begin() as connection:
        for location in (named, gone, free):
            row = {"backend": "memory", "location": location, "storage_key": "documents", "not_before": later}
            connection.execute(insert(outbox), row)
    found = _verify(world)
    assert {(one.kind.value, one.location) for one in found} == {("outbox-named", named), ("outbox-gone", gone)}
    assert found.report.awaiting == 1 and len(_outbox(world)) == 3
    found = _verify(world, repair=True)
    assert (found.report.repaired, found.report.exit_status, _outbox(world)) == (2, 0, [free])
    assert named in world.objects()


@pytest.mark.databases("postgresql", "mariadb")
def test_rows_of_the_outbox_that_somebody_works_on_are_left_to_them(world: World) -> None:
    outbox: Any = outbox_of(world.Base.metadata)
    row = {"backend": "memory", "location": "docs/2020/01/01/gone", "storage_key": "documents"}
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), row)
    with world.engine.begin() as connection:
        connection.execute(select(outbox).with_for_update())
        assert _verify(world) == []
        assert _verify(world, repair=True) == []
    assert _verify(world, repair=True).kinds == ["outbox-gone"]


def test_more_than_a_tenth_of_many_needs_an_explicit_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granite_storage.maintenance.brake._OBJECTS", 50)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(90))
        session.commit()
    for _ in range(11):
        put_old(world.backend, 30 * DAY)
    found = _verify(world, repair=True)
    assert (found.report.repaired, found.report.exit_status, _outbox(world)) == (0, 2, [])
    assert "11 of 101 objects" in found.report.refused[0]
    assert "verify(repair=True, force=True)" in found.report.refused[0]
    assert _verify(world, repair=True, force=True).report.repaired == 11


def test_if_nothing_names_anything_nothing_is_handed_over_without_the_word(world: World) -> None:
    put_old(world.backend, 30 * DAY)
    found = _verify(world, repair=True)
    assert found.report.repaired == 0 and "nothing names any object" in found.report.refused[0]
    assert _verify(world, repair=True, force=True).report.repaired == 1


def test_orphans_that_a_row_which_nobody_can_read_may_name_stay(world: World) -> None:
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO document (id, scan) VALUES (7, (:v){kind})"), {"v": '{"size": 3}'})
    found = _verify(world, repair=True)
    assert found.kinds == ["orphan", "unreadable"] and (found.report.repaired, _outbox(world)) == (0, [])
    assert "'documents'" in found.report.refused[0] and "mend or convert" in found.report.refused[0]


@pytest.mark.databases("sqlite")
def test_without_an_outbox_orphans_stay_and_it_says_who_deletes_them(engine: Engine) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("notes")

    backend = MemoryStorageBackend()
    manager = StorageManager({"memory": backend}, {"notes": StoragePolicy("notes", "memory")})
    manager.attach(Base, engine=engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Note(scan=b"kept"))
        session.commit()
    put_old(backend, 30 * DAY, prefix="notes")
    report = StorageVerifier(manager).verify(repair=True)
    assert report.repaired == 0 and "StorageGarbageCollector" in report.refused[0]


# What stops it


def test_a_store_that_cannot_be_listed_is_failed_and_nothing_in_it_is_called_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept", cover=b"cover") for _ in range(5))
        session.commit()
    listed = world.backend.iter_objects

    def broken(prefix: str | None = None, **options: Any) -> Iterator[ObjectInfo]:
        for number, one in enumerate(listed(prefix, **options)):
            if prefix == "docs" and number == 3:
                raise BackendError("the store is down")
            yield one

    monkeypatch.setattr(world.backend, "iter_objects", broken)
    found = _verify(world)
    assert found == [] and (found.report.status, found.report.exit_status) == ("failed", 2)
    assert "'docs'" in found.report.refused[0] and "the store is down" in found.report.refused[0]
    assert found.report.objects == 2 + 5


def test_an_object_that_the_store_does_not_let_see_is_unchecked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [world.add(report=b"kept") for _ in range(2)]
    _insert(world, id=90, report=_ref("elsewhere/x"))
    denied = _location(world, keys[0])
    opened = world.backend.open

    def stat(ref: StoredObjectRef) -> Any:
        raise BackendError("access denied")

    def open_(ref: StoredObjectRef) -> Any:
        if ref.location == denied:
            raise BackendError("access denied")
        return opened(ref)

    monkeypatch.setattr(world.backend, "stat", stat)
    monkeypatch.setattr(world.backend, "open", open_)
    found = _verify(world, deep=True)
    assert found.rows == [("unchecked", "document", "report", (key,)) for key in (keys[0], 90)]
    assert {one.detail for one in found} == {"access denied"}
    assert (found.report.failed, found.report.found, found.report.exit_status) == (2, 0, 2)


def test_another_owners_orphans_are_not_judged_and_rows_are(world: World) -> None:
    key = world.add(report=b"kept")
    world.add(report=b"kept")
    put_old(world.backend, 30 * DAY)
    del world.backend._objects[_location(world, key)]
    world.manager.ownership.forget([world.backend])  # as a process that has just begun
    StorageManager({"memory": world.backend}, {}, owner="other").ownership.take(
        world.backend, world.manager.policies["documents"], set()
    )
    found = _verify(world, repair=True)
    assert found.kinds == ["missing"] and _outbox(world) == []
    assert "belongs to the owner 'other'" in found.report.refused[0] and found.report.exit_status == 2


@pytest.mark.databases("postgresql", "mariadb")
def test_it_refuses_a_replica(world: World) -> None:
    asked = {"postgresql": "SELECT pg_is_in_recovery()", "mariadb": "SELECT @@read_only"}[world.engine.dialect.name]

    @event.listens_for(world.engine, "before_cursor_execute", retval=True)
    def lag(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> tuple[str, Any]:
        return ("SELECT 1" if statement == asked else statement), parameters

    with pytest.raises(ReplicaError, match="primary"):
        _verify(world)


@pytest.mark.databases("mariadb")
def test_prepared_transactions_of_unknown_age_make_nothing_an_orphan(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granite_storage.maintenance.horizon._LOOKS", 2)
    world.add(report=b"kept")
    put_old(world.backend, 40 * DAY)
    with waiting_transaction(world.engine):
        found = _verify(world, repair=True)
    assert (found, found.report.young, found.report.repaired) == ([], 1, 0)
    assert "XA RECOVER" in found.report.refused[0]


# Any backend, any size


class Unordered:
    """A backend of 0.1.0's protocol: it tells no order, no sizes and no times; and one that tells sizes one by one."""

    backend_name = "unordered"

    def __init__(self, inner: MemoryStorageBackend, abilities: frozenset[Ability]) -> None:
        self._inner, self.abilities = inner, abilities

    def __getattr__(self, name: str) -> Any:
        if name == "iter_objects" or (name == "stat" and not self.abilities):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return iter(sorted(self._inner.iter_locations(prefix), reverse=True))


@pytest.mark.parametrize("abilities", [frozenset(), frozenset({Ability.STAT})], ids=["bare", "stat"])
def test_a_backend_that_lists_in_no_order_is_verified_exactly(
    world: World, monkeypatch: pytest.MonkeyPatch, abilities: frozenset[Ability]
) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 2)
    keys = [world.add(report=b"kept") for _ in range(7)]
    orphan = put_old(world.backend, 30 * DAY)
    del world.backend._objects[_location(world, keys[3])]
    world.backend._objects[_location(world, keys[4])] = _Object(b"longer", datetime.now(UTC))
    with world.manager.override({"memory": Unordered(world.backend, abilities)}, world.manager.policies):  # type: ignore[dict-item]
        shallow, deep = _verify(world), _verify(world, deep=True)
    sizes = [("size", "document", "report", (keys[4],))]
    missing = ("missing", "document", "report", (keys[3],))
    assert [row for row in shallow.rows if row[1]] == [missing, *(sizes if abilities else [])]
    assert [one.location for one in shallow if one.kind is FindingKind.ORPHAN] == [orphan]
    assert [one.key for one in deep if one.key] == [(keys[3],), (keys[4],)] or abilities
    assert len(deep) == 3


@pytest.mark.parametrize("stretch", [1, 2, 3, 7])
def test_every_object_and_row_is_compared_whatever_the_stretches(
    world: World, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    """Many missing in a row, many orphans in a row, many rows that name one, at the edges of stretches and pages."""
    monkeypatch.setattr(both_sides, "STRETCH", stretch)
    monkeypatch.setattr("granite_storage.maintenance.verify.naming._STRETCH", stretch)
    expected = set()
    rows: list[dict[str, Any]] = []
    names = ["a-b", "a/b", "a.b", "A/b", "é", "z", "\uffee", "\U00010000", "ß", "ss", *(f"m{n:02}" for n in range(40))]
    for number, name in enumerate(sorted(names)):
        location = f"docs/{name}.txt"
        kind = ("fine", "missing", "missing", "shared", "missing", "fine", "size")[number % 7]
        if 20 <= number < 30:
            kind = "missing"
        if kind != "missing":
            content = b"longer" if kind == "size" else b"old"
            world.backend._objects[location] = _Object(content, datetime.now(UTC) - 30 * DAY)
        for _ in range(5 if kind == "shared" else 1):
            rows.append({"id": len(rows) + 1, "report": _ref(location)})
        if kind != "fine":
            expected.add((kind, location))
    expected |= {("orphan", put_old(world.backend, 30 * DAY)) for _ in range(9)}
    with world.engine.begin() as connection:
        connection.execute(insert(world.Document.__table__), rows)
    found = _verify(world)
    assert {(one.kind.value, one.location) for one in found} == expected and len(found) == len(expected)
    assert (found.report.rows, found.report.objects) == (len(rows), len(world.objects()))


def test_files_on_disk_are_verified(world: World, tmp_path: Path) -> None:
    backend = LocalStorageBackend(tmp_path)
    with world.manager.override({"memory": backend}, world.manager.policies):
        keys = [world.add(report=b"content") for _ in range(5)]
        (tmp_path / _location(world, keys[0])).unlink()
        (tmp_path / _location(world, keys[1])).write_bytes(b"cont")
        (tmp_path / _location(world, keys[2])).write_bytes(b"CONTENT")
        (tmp_path / _location(world, keys[3])).chmod(0o640)
        assert [(kind, key) for kind, _, _, key in _verify(world).rows] == [
            ("missing", (keys[0],)),
            ("size", (keys[1],)),
        ]
        found = _verify(world, deep=True)
        assert found.kinds == ["checksum", "missing", "size"] and found.report.bytes_read == 7 * 4


def test_a_bucket_is_listed_and_no_object_is_asked_for_by_itself(world: World, s3_bucket: Any) -> None:
    from granite_storage.backends.s3 import S3StorageBackend

    backend = S3StorageBackend(bucket=s3_bucket.name, client=s3_bucket.client)
    with world.manager.override({"memory": backend}, world.manager.policies):
        keys = [world.add(report=b"content") for _ in range(12)]
        sent: list[str] = []
        s3_bucket.client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
        assert _verify(world) == []
        sent.clear()  # the owners' marks were looked at
        assert _verify(world) == [] and set(sent) == {"ListObjectsV2"}
        s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=_location(world, keys[0]))
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=_location(world, keys[1]), Body=b"CONTENT")
        sent.clear()
        assert _verify(world).rows == [("missing", "document", "report", (keys[0],))]
        assert sent.count("HeadObject") == 1  # of the one that is missing
        assert _verify(world, deep=True).kinds == ["checksum", "missing"]


class Counting(MemoryStorageBackend):
    """A store of as many objects as a test says, which it makes as they are listed."""

    def iter_objects(self, prefix: str | None = None, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        if prefix == "docs":
            for number in range(40_000):
                yield ObjectInfo(f"docs/{number:032}", 3, datetime.now(UTC))


@pytest.mark.databases("sqlite")
def test_memory_grows_with_neither_store_nor_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 000 objects and as many rows take more than 16 MiB, which held them all."""
    monkeypatch.setattr(both_sides, "STRETCH", 1000)
    monkeypatch.setattr("granite_storage.maintenance.verify.naming._STRETCH", 1000)
    table: Any = world.Document.__table__
    for start in range(0, 40_000, 5_000):
        with world.engine.begin() as connection:
            rows = [{"id": n + 1, "report": _ref(f"docs/{n + 1_000:032}")} for n in range(start, start + 5_000)]
            connection.execute(insert(table), rows)
    with world.manager.override({"memory": Counting()}, world.manager.policies):
        tracemalloc.start()
        try:
            report = StorageVerifier(world.manager, engine=world.engine).verify()
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()
    assert (report.rows, report.objects, report.counts["missing"]) == (40_000, 40_000, 1_000)  # type: ignore[index]


@pytest.mark.databases("sqlite")
def test_progress_is_told_as_it_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both_sides, "STRETCH", 2)
    with world.session() as session:
        session.add_all(world.Document(report=b"kept") for _ in range(5))
        session.commit()
    told: list[int] = []
    StorageVerifier(world.manager, engine=world.engine, progress=lambda report: told.append(report.objects)).verify()
    assert [count for count in dict.fromkeys(told) if count] == [2, 4, 5] and told[-1] == 5


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
@pytest.mark.databases("sqlite", "postgresql")
def test_it_can_be_awaited(database: Database, world: World, kind: str) -> None:
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    key = world.add(report=b"kept")
    world.add(report=b"gone")
    put_old(world.backend, 30 * DAY)
    del world.backend._objects[_location(world, key + 1)]

    async def verify() -> VerifyReport:
        engine = create_async_engine(database.url_through(entry)) if kind == "asynchronous" else world.engine
        try:
            return await StorageVerifier(world.manager, engine=engine).averify(deep=True, repair=True)
        finally:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()

    report = asyncio.run(verify())
    assert report.counts == {FindingKind.MISSING: 1, FindingKind.ORPHAN: 1} and report.repaired == 1
    assert report.bytes_read == 4 and len(_outbox(world)) == 1


def test_a_listing_that_repeats_itself_counts_each_object_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(report=b"one")
    world.add(report=b"two")
    listed = world.backend.iter_objects

    def repeating(*args: Any, **options: Any) -> Iterator[ObjectInfo]:
        for one in listed(*args, **options):
            yield from (one, one)

    monkeypatch.setattr(world.backend, "iter_objects", repeating)
    found = _verify(world)
    assert (found, found.report.rows, found.report.objects) == ([], 2, 2)


@pytest.mark.databases("sqlite")  # which has no locks that would tell
def test_an_object_that_is_just_being_deleted_is_no_finding(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    row = {"backend": "memory", "storage_key": "documents"}
    with world.engine.begin() as connection:
        connection.execute(insert(outbox), [row | {"location": f"docs/{name}"} for name in ("lost", "just now")])

    def end(seconds: float) -> None:
        with world.engine.begin() as connection:
            connection.execute(outbox.delete().where(outbox.c.location == "docs/just now"))

    monkeypatch.setattr("granite_storage.maintenance.verify.stale.time.sleep", end)
    assert [(one.kind, one.location) for one in _verify(world)] == [(FindingKind.OUTBOX_GONE, "docs/lost")]
