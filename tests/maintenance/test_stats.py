"""Statistics count what rows say, in the database, and are not disturbed by what stands there besides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StoredFile, StoredObjectRef
from granite_storage.exceptions import ConfigurationError
from granite_storage.stats import Amount, StorageStats, astorage_stats, storage_stats
from tests.databases import Database
from tests.orm.worlds import World

KIB = 2**10


def _ref(size: int, content_type: str | None, created: str | None, **other: Any) -> StoredObjectRef:
    members = {"storage_key": "documents", "backend": "memory", "location": "docs/x", "checksum": ""} | other
    return StoredObjectRef(size=size, content_type=content_type, created_at=created, **members)


def _fill(world: World, column: str, refs: list[StoredObjectRef], first: int = 1) -> None:
    with world.engine.begin() as connection:
        rows = [{"id": first + number, column: ref} for number, ref in enumerate(refs)]
        connection.execute(insert(world.Document.__table__), rows)


REFS = [
    _ref(0, "text/plain", "2025-12-31T23:59:59.999999+00:00"),
    _ref(KIB - 1, "text/plain", "2026-01-01T00:00:00+00:00"),
    _ref(KIB, "application/pdf", "2026-01-31T12:00:00+00:00"),
    _ref(3 * 2**40, "video/mp4", "2026-11-25T12:00:00+00:00"),
    _ref(3 * 2**40, "video/mp4", "2026-11-25T12:00:00+00:00"),
    _ref(5, None, None),
    _ref(5, "text/plain", "yesterday", storage_key="Documents"),
]


def test_it_counts_by_type_month_and_size_per_field_and_policy(world: World) -> None:
    _fill(world, "report", REFS)
    _fill(world, "cover", [_ref(7, "image/png", "2026-02-01T00:00:00", storage_key="covers")], first=50)
    stats = storage_stats(world.manager, engine=world.engine)
    whole = 6 * 2**40 + 2 * KIB - 1
    assert stats.total == Amount(8, whole + 5 + 5 + 7) and stats.unreadable == 0
    assert [(one.table, one.column, one.policy, one.backend, one.total.count) for one in stats.fields] == [
        ("document", "cover", "covers", "memory", 1),
        ("document", "report", "Documents", "memory", 1),
        ("document", "report", "documents", "memory", 6),
    ]
    reports = stats.fields[2]
    assert (reports.total.bytes, reports.largest) == (whole + 5, 3 * 2**40)
    assert reports.types == {
        "text/plain": Amount(2, KIB - 1),
        "application/pdf": Amount(1, KIB),
        "video/mp4": Amount(2, 6 * 2**40),
        "unknown": Amount(1, 5),
    }
    assert reports.months == {
        "2025-12": Amount(1, 0),
        "2026-01": Amount(2, 2 * KIB - 1),
        "2026-11": Amount(2, 6 * 2**40),
        "unknown": Amount(1, 5),
    }
    assert reports.sizes == {
        "under 1 KiB": Amount(3, KIB + 4),
        "under 10 KiB": Amount(1, KIB),
        "10 GiB and more": Amount(2, 6 * 2**40),
    }
    assert stats.policies == {
        "covers": Amount(1, 7),
        "Documents": Amount(1, 5),
        "documents": Amount(6, whole + 5),
    }
    assert list(stats.types) == ["video/mp4", "text/plain", "application/pdf", "image/png", "unknown"]
    assert stats.types["text/plain"] == Amount(3, KIB + 4) and list(stats.backends) == ["memory"]
    assert list(stats.months) == ["2025-12", "2026-01", "2026-02", "2026-11", "unknown"]
    assert {year: amount.count for year, amount in stats.years.items()} == {"2025": 1, "2026": 5, "unknown": 2}
    assert list(stats.sizes) == ["under 1 KiB", "under 10 KiB", "10 GiB and more"]


def test_what_a_flush_stores_is_counted(world: World) -> None:
    world.add(report=b"report", scan=b"scan", cover=b"cover")
    world.add(report=b"another")
    world.add()
    stats = storage_stats(world.manager, engine=world.engine)
    assert stats.total == Amount(4, 22) and stats.policies["covers"] == Amount(1, 5)
    assert "unknown" not in stats.months and stats.types == {"application/octet-stream": Amount(4, 22)}


@pytest.mark.parametrize(
    "value",
    [
        {"legacy_inline_text": "hello"},
        {"size": 3},
        {"location": "x"},
        {"location": "x", "size": "many"},
        {"location": "x", "size": -1},
        {"location": "x", "size": 1.5},
        {"location": "x", "size": [3]},
        {"location": "x", "size": 10**30},
        [1],
        "docs/x",
        7,
    ],
)
def test_values_that_are_no_ref_are_counted_apart_and_null_is_none(world: World, value: Any) -> None:
    world.add(report=b"four", scan=b"scan")
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        for key, content in ((7, json.dumps(value)), (8, "null")):
            connection.execute(text(f"INSERT INTO document (id, scan) VALUES ({key}, (:v){kind})"), {"v": content})
    stats = storage_stats(world.manager, engine=world.engine)
    assert (stats.total, stats.unreadable) == (Amount(2, 8), 1)
    assert "unreadable: 1" in str(stats)


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("content_type", 5, ("documents", "memory", "5")),
        ("storage_key", 5, ("5", "memory", "text/plain")),
        ("backend", 5, ("documents", "5", "text/plain")),
        ("created_at", 2026, ("documents", "memory", "text/plain")),
        ("content_type", None, ("documents", "memory", "unknown")),
    ],
)
def test_a_ref_with_a_member_that_is_no_text_is_counted_by_what_it_tells(
    world: World, member: str, value: int | None, told: tuple[str, str, str]
) -> None:
    _fill(world, "scan", [_ref(3, "text/plain", None)])
    broken = {**_ref(4, "text/plain", None).to_dict(), member: value}
    kind = "::jsonb" if world.engine.dialect.name == "postgresql" else ""
    with world.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO document (id, scan) VALUES (7, (:v){kind})"), {"v": json.dumps(broken)})
    stats = storage_stats(world.manager, engine=world.engine)
    assert (stats.total, stats.unreadable) == (Amount(2, 7), 0) and "text/plain" in str(stats)
    counted = {(one.policy, one.backend, name): amount for one in stats.fields for name, amount in one.types.items()}
    whole = ("documents", "memory", "text/plain")
    assert counted == ({whole: Amount(2, 7)} if told == whole else {whole: Amount(1, 3), told: Amount(1, 4)})
    assert set(stats.months) == {"unknown"}


def test_texts_that_differ_in_case_or_in_blanks_at_the_end_are_counted_apart(world: World) -> None:
    types = ["text/plain", "text/plain ", "Text/plain"]
    _fill(world, "scan", [_ref(3, one, None) for one in types])
    _fill(world, "report", [_ref(3, None, None, storage_key=one) for one in ("documents", "documents ")], first=50)
    stats = storage_stats(world.manager, engine=world.engine)
    assert stats.types == {**dict.fromkeys(types, Amount(1, 3)), "unknown": Amount(2, 6)}
    assert stats.policies["documents "] == Amount(1, 3)


def test_several_databases_are_added_up_and_other_models_too(world: World, memory_engine: Engine) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData()

    class Page(Other):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        scan: FileMapped[StoredFile | None] = FileColumn("documents")

    world.add(report=b"four")
    world.Base.metadata.create_all(memory_engine)
    Page.__table__.create(memory_engine)  # type: ignore[attr-defined]
    with Session(memory_engine) as session:
        session.add(world.Document(report=b"five!"))
        session.commit()
    with memory_engine.begin() as connection:
        connection.execute(insert(Page.__table__), {"id": 1, "scan": REFS[1]})
    stats = storage_stats(world.manager, [Other], engine=[world.engine, memory_engine])
    assert [(one.table, one.total) for one in stats.fields] == [
        ("document", Amount(2, 9)),
        ("page", Amount(1, KIB - 1)),
    ]
    with pytest.raises(ConfigurationError, match="not 'document'"):
        storage_stats(world.manager, "document", engine=world.engine)  # type: ignore[arg-type]


def test_it_asks_one_statement_a_column(world: World) -> None:
    world.add(report=b"four", scan=b"scan", cover=b"cover")
    with world.statements() as sent:
        storage_stats(world.manager, engine=world.engine)
    counted = [statement for statement in sent if "GROUP BY" in statement]
    assert len(counted) == 5 and all("count(" in statement.lower() for statement in counted)


@pytest.mark.databases("sqlite")
def test_the_table_and_the_json_tell_the_same(world: World) -> None:
    _fill(world, "report", REFS)
    _fill(world, "scan", [_ref(1, f"type/{number:02}", None) for number in range(12)], first=20)
    stats = storage_stats(world.manager, engine=world.engine)
    told = json.loads(json.dumps(stats.to_dict()))
    assert (told["count"], told["bytes"], len(told["fields"])) == (19, stats.total.bytes, 3)
    assert told["fields"][1]["months"]["2026-01"] == {"count": 2, "bytes": 2 * KIB - 1}
    assert told["years"]["2026"]["count"] == 4 and told["types"]["video/mp4"]["bytes"] == 6 * 2**40
    assert str(stats).splitlines()[:5] == [
        "field            policy     backend  files     size  largest",
        "document.report  Documents  memory       1      5 B      5 B",
        "document.report  documents  memory       6  6.0 TiB  3.0 TiB",
        "document.scan    documents  memory      12     12 B      1 B",
        "all                                     19  6.0 TiB  3.0 TiB",
    ]
    assert "6 other types" in str(stats)


def test_a_database_of_others_is_told(world: World, memory_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="none of the tables with file fields"):
        storage_stats(world.manager, engine=memory_engine)
    with world.engine.begin() as connection:
        connection.execute(text("ALTER TABLE document RENAME TO document_old"))
    assert storage_stats(world.manager, engine=world.engine).total.count == 0
    assert "not counted: " in caplog.text and "document.cover, document.report, document.scan" in caplog.text


def test_nothing_stored_is_a_table_of_nothing() -> None:
    assert str(StorageStats(())).splitlines()[-1].split() == ["all", "0", "0", "B", "0", "B"]


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
@pytest.mark.databases("sqlite", "postgresql")
def test_it_can_be_awaited(database: Database, world: World, kind: str) -> None:
    entry = "aiosqlite" if world.engine.dialect.name == "sqlite" else "asyncpg"
    world.add(report=b"four")

    async def count() -> StorageStats:
        engine = create_async_engine(database.url_through(entry)) if kind == "asynchronous" else world.engine
        try:
            return await astorage_stats(world.manager, engine=engine)
        finally:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()

    assert asyncio.run(count()).total == Amount(1, 4)
