"""What a cut-off transaction may leave behind: outbox rows, and recent objects that no row names. Nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from granite_storage.locations import location_time
from granite_storage.orm.discarding import work_off
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import Asking, Source, ref_columns
from granite_storage.orm.sites import Site
from granite_storage.ownership import is_mark
from granite_storage.refs import StoredObjectRef
from tests.orm.worlds import World


def stored(world: World) -> set[str]:
    """The locations of all objects, without the marks."""
    return {location for location in world.objects() if not is_mark(location)}


def contents(world: World) -> list[bytes]:
    """What the objects hold, sorted."""
    return sorted(world.backend.get(StoredObjectRef("", "memory", location, 0, "")) for location in stored(world))


def freed(world: World) -> set[str]:
    """The locations that stand in the outbox."""
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    with world.engine.connect() as connection:
        return set(connection.scalars(select(outbox.c.location)))


def check_clean(world: World) -> None:
    """Rows and objects agree, and there is nothing left to do."""
    check_nothing_lost(world)
    assert stored(world) == set(world.named()), "an object is nobody's"
    assert freed(world) == set(), "the outbox has work left"


def check_nothing_lost(world: World) -> None:
    """Every row has an object of its own, and a sweep can find whatever is nobody's."""
    named = world.named()
    assert len(named) == len(set(named)), "two fields share an object"
    assert set(named) - stored(world) == set(), "a row names a missing object"
    assert freed(world) & set(named) == set(), "the outbox holds an object that a row names"
    for location in stored(world) - set(named) - freed(world):
        made = location_time(location)
        assert made is not None and datetime.now(UTC) - made < timedelta(minutes=10), "a sweep would not see it"


def finish_outbox(world: World) -> None:
    """What a sweep does with the outbox."""
    site = Site.of(world.engine, world.Base.metadata)
    asking = Asking([Source(column, world.engine) for column in ref_columns(world.Base.metadata)])
    with site.desk() as desk:
        work_off(world.manager, site, desk, asking)
