"""A machine whose clock is ahead takes nothing young for old."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from granite_storage.gc import StorageGarbageCollector
from granite_storage.verify import StorageVerifier
from tests.maintenance.ages import HOUR, put_old
from tests.orm.worlds import World

AHEAD = timedelta(days=2)
BEHIND = -timedelta(days=2)


@pytest.fixture
def wrong_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Sets the clock here wrong; that of the database stays right."""

    def set_wrong(by: timedelta) -> None:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + by

        monkeypatch.setattr("granite_storage.maintenance.horizon.datetime", Wrong)

    return set_wrong


def _sweep(world: World) -> None:
    world.manager.sweep(world.engine)


def _collect(world: World) -> None:
    StorageGarbageCollector(world.manager, engine=world.engine).collect(dry_run=False)


def _repair(world: World) -> None:
    StorageVerifier(world.manager, engine=world.engine).verify(repair=True)
    world.manager.sweep(world.engine)


@pytest.mark.databases("postgresql", "mariadb")  # SQLite has no clock of its own
@pytest.mark.parametrize("work", [_sweep, _collect, _repair])
def test_a_clock_that_is_ahead_deletes_nothing_young(
    world: World, work: Callable[[World], None], wrong_clock: Callable[[timedelta], None]
) -> None:
    world.add(report=b"kept")
    young, old = put_old(world.backend, HOUR), put_old(world.backend, 25 * HOUR)
    wrong_clock(AHEAD)
    work(world)
    assert young in world.objects() and old not in world.objects()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_clock_that_is_ahead_leaves_later_sweeps_what_is_theirs(
    world: World, wrong_clock: Callable[[timedelta], None]
) -> None:
    world.add(report=b"kept")
    wrong_clock(AHEAD)
    report = world.manager.sweep(world.engine)
    assert report.watermark is not None
    assert report.watermark < datetime.now(UTC) - world.manager.grace + timedelta(minutes=1)


@pytest.mark.parametrize("work", [_sweep, _collect, _repair])
def test_a_clock_that_is_behind_keeps_more(
    world: World, work: Callable[[World], None], wrong_clock: Callable[[timedelta], None]
) -> None:
    world.add(report=b"kept")
    location = put_old(world.backend, 25 * HOUR)
    wrong_clock(BEHIND)
    work(world)
    assert location in world.objects()
