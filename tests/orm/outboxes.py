"""What stands in an outbox, read and changed behind the ORM's back, and the work on it that a sweep does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from granite_storage.orm.discarding import Discarded, work_off
from granite_storage.orm.outbox import outbox_of
from granite_storage.orm.references import Asking, sources_of
from granite_storage.orm.sites import Site
from tests.orm.worlds import World


def outbox_in(world: World) -> Table:
    """The outbox of a world's models."""
    outbox = outbox_of(world.Base.metadata)
    assert outbox is not None
    return outbox


def freed(world: World, connection: Connection | None = None) -> list[Any]:
    """The rows of the outbox by id: as committed, or as the transaction of ``connection`` sees them."""
    outbox = outbox_in(world)
    statement = select(outbox).order_by(outbox.c.id)
    if connection is not None:
        return list(connection.execute(statement).all())
    with world.engine.connect() as own:
        return list(own.execute(statement).all())


def freed_by(world: World, session: Any) -> list[Any]:
    """The rows that a session's open transaction sees."""
    return freed(world, session.connection())


def make_due(world: World) -> None:
    """Let everything in the outbox be due now."""
    with world.engine.begin() as connection:
        connection.execute(update(outbox_in(world)).values(not_before=datetime(2000, 1, 1)))


def clear(world: World) -> None:
    """Remove all rows."""
    with world.engine.begin() as connection:
        connection.execute(delete(outbox_in(world)))


def work(world: World, **options: Any) -> Discarded:
    """Work off what is due, as a sweep does."""
    site = Site.of(world.engine, world.Base.metadata)
    with world.session() as session:
        sources = sources_of(session, session.connection(), world.manager)
    with site.desk() as desk:
        return work_off(world.manager, site, desk, Asking(sources), **options)
