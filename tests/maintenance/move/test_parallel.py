"""A move in parts, on any executor, moves what one in a single process does."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from granite_storage.exceptions import BackendError, ConfigurationError
from granite_storage.maintenance.move import pace, parallel, report, rows, run
from granite_storage.maintenance.move.parallel import cut
from granite_storage.maintenance.move.rows import KeyRange, Place
from granite_storage.maintenance.move.selection import Selection
from granite_storage.maintenance.places import sites_of
from granite_storage.move import MoveReport
from tests.maintenance.executors import LaterExecutor
from tests.maintenance.move.archives import ArchiveWorld
from tests.maintenance.shops import Shop


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges, stretches and batches of very few rows."""
    monkeypatch.setattr(parallel, "LEAST", 2)
    monkeypatch.setattr(rows, "STRETCH", 3)
    monkeypatch.setattr(run, "BATCH", 2)


def _place(world: ArchiveWorld, table: str, column: str) -> Place:
    (site,) = sites_of(world.manager, world.engine)
    return Place(site, world.Base.metadata.tables[table].columns[column])


def _authors(world: ArchiveWorld, count: int) -> list[tuple[str, int]]:
    """Keys of two columns."""
    keys = [(country, number) for country in ("be", "de", "nl") for number in range(count)]
    with world.session() as session:
        for country, number in keys:
            name = b"%s %d" % (country.encode(), number)
            session.add(world.Author(country=country, number=number, kind="author", contract=name))
        session.commit()
    return keys


def _in(place: Place, keys: KeyRange) -> list[Any]:
    everything = Selection("documents", frozenset(), but=True)
    return [row.key for batch in place.batches(everything, 2, keys) for row in batch]


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 100])
def test_ranges_of_keys_have_every_row_once_and_about_as_many_each(world: ArchiveWorld, parts: int) -> None:
    keys = _authors(world, 13)
    place = _place(world, "author", "contract")
    found = [sorted(_in(place, one)) for one in cut(place, parts)]
    assert sorted(key for part in found for key in part) == sorted(keys)
    assert len(found) == min(parts, 20)
    if parts < 10:
        assert max(map(len, found)) <= 2 * 39 / parts


def test_a_small_table_is_one_range(world: ArchiveWorld) -> None:
    assert cut(_place(world, "author", "contract"), 8) == [KeyRange()]
    _authors(world, 1)
    assert len(cut(_place(world, "author", "contract"), 8)) == 2


def test_in_parts_it_moves_the_same(world: ArchiveWorld, threads: Executor) -> None:
    contents = world.fill(11)
    _authors(world, 5)
    with world.session() as session:
        for document in session.scalars(select(world.Document)):
            document.scan = b"scan"
        session.commit()
    world.add(cover=b"cover")
    dry = world.move(dry_run=True)
    assert world.move(dry_run=True, executor=threads, parts=4) == dry
    told: list[int] = []
    mover = world.mover(progress=lambda found: told.append(found.moved))
    found = mover.move("documents", to="archive", executor=threads, parts=4)
    assert (found.moved, found.moved_bytes, found.deleted, found.complete) == (37, dry.moved_bytes, 37, True)
    assert told == sorted(told) and len(set(told)) > 4
    assert world.read() == contents and set(world.policies_of().values()) == {"archive"}
    world.check_both()
    assert world.move(executor=threads).moved == 0


def test_rows_that_come_meanwhile_are_in_the_last_part(world: ArchiveWorld) -> None:
    world.manager.pool.size = 1
    world.fill(6)

    def add(key: str) -> None:
        world.archive.before_put = lambda key: None
        world.add(report=b"late")

    world.archive.before_put = add
    assert world.move(executor=LaterExecutor(), make=world.mover, parts=3).moved == 7
    world.check_both()


def test_what_it_does_not_move_is_told_as_by_a_serial_move(
    world: ArchiveWorld, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(9)
    for number in range(4):
        world.add(report=b"much too long a report, %d" % number)
    with world.with_archive(max_size=15):
        dry = world.move(dry_run=True)
        found = world.move(executor=threads, parts=4)
    assert (found.moved, found.skipped, found.refused) == (9, 4, [])
    assert found.findings == dry.findings and len(dry.findings) == 4
    monkeypatch.setattr(report, "FINDINGS_TOLD", 2)
    with world.with_archive(max_size=15):
        found = world.move(executor=threads, parts=4)
    assert found.skipped == 4 and found.findings == dry.findings[:2]


def test_a_store_that_is_down_is_told_once(
    world: ArchiveWorld, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_FAILURES", 2)
    contents = world.fill(12)

    def fail(key: str) -> None:
        raise BackendError("the store is down")

    world.archive.before_put = fail
    found = world.move(executor=threads, parts=2)
    assert found.moved == 0 and found.failed == 4
    assert len(found.refused) == 1 and "2 files could not be moved" in found.refused[0]
    assert world.read() == contents
    world.check_both()


@pytest.mark.databases("sqlite")
def test_under_a_limit_so_many_parts_as_are_asked_for_share_it(
    world: ArchiveWorld, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(20)
    shares: list[float | None] = []
    made = pace.Pace.__init__

    def note(self: pace.Pace, bytes_per_second: float | None = None, objects_per_second: float | None = None) -> None:
        shares.append(objects_per_second)
        made(self, bytes_per_second, objects_per_second)

    monkeypatch.setattr(pace.Pace, "__init__", note)
    world.move(executor=threads, parts=4, objects_per_second=1e6, dry_run=True)
    assert shares == [1e6] + 6 * [1e6 / 4]  # four of documents, one of each other table


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("limit", [{}, {"bytes_per_second": 1e9}])
def test_only_under_a_limit_parts_wait_for_their_turn(world: ArchiveWorld, limit: dict[str, float]) -> None:
    world.fill(9)
    _authors(world, 3)
    executor = LaterExecutor()
    world.move(executor=executor, make=world.mover, parts=3, dry_run=True, **limit)
    assert executor.most == (3 if limit else 9)


@pytest.mark.databases("sqlite")
def test_it_says_what_an_executor_needs(world: ArchiveWorld, processes: Executor, threads: Executor) -> None:
    world.fill(1)
    with pytest.raises(ConfigurationError, match="gives a mover like this one"):
        world.move(executor=processes)
    with pytest.raises(ConfigurationError, match="parts is a number of ranges, 1 or more, not 0"):
        world.move(executor=threads, parts=0)
    with pytest.raises(ConfigurationError, match="bytes_per_second must be above 0"):
        world.move(executor=threads, bytes_per_second=0)
    other = world.mover(world.Author)
    with pytest.raises(ConfigurationError, match="no files to move in table 'document' of database number 0"):
        world.move(executor=threads, make=lambda: other)
    world.check_both()


# Past one process


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """With 1010 documents, 23 of them with a file, spread evenly."""
    with Session(shop.module.engine) as session:
        for number in range(1010):
            session.add(shop.module.Document(id=number + 1, report=b"content" if number % 44 == 0 else None))
        session.commit()
    return shop


def _check(found: MoveReport, shop: Shop) -> None:
    assert (found.moved, found.moved_bytes, found.deleted, found.complete) == (23, 161, 23, True)
    backends = shop.module.manager.backends
    assert len([*backends["local"].iter_locations("documents")]) == 0
    with Session(shop.module.engine) as session:
        files = [one for one in session.scalars(select(shop.module.Document.report)) if one is not None]
        assert [file.read() for file in files] == 23 * [b"content"]
        assert {file.location for file in files} == {*backends["shelf"].iter_locations("archive")}
    shop.check_workers()


def test_on_processes(filled: Shop, processes: Executor) -> None:
    make = filled.module.make_mover
    _check(make().move("documents", to="archive", executor=processes, make=make, parts=4), filled)


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_on_dask(filled: Shop, dask: Executor) -> None:
    make = filled.module.make_mover
    _check(make().move("documents", to="archive", executor=dask, make=make, parts=4), filled)
