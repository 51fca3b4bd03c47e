"""Through the drivers that an AsyncSession uses, which send what they are given in their own ways."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from granite_storage.orm.triggers import triggers_stand
from tests.databases import Database
from tests.orm.triggers.worlds import TriggerWorld

DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}


@pytest.mark.databases("sqlite", "postgresql")
def test_triggers_are_made_asked_for_and_fire(engine, database: Database):
    world = TriggerWorld(engine)

    async def scenario() -> None:
        async_engine = create_async_engine(database.url_through(DRIVERS[database.name]))
        async with async_engine.begin() as connection:
            await connection.run_sync(world.metadata.create_all)
        async with AsyncSession(async_engine) as session:
            documents = [world.Document(id=number, report=b"content") for number in (1, 2)]
            session.add_all(documents)
            await session.commit()
            (await session.get_one(world.Document, 1)).report = None
            await session.flush()
            connection = await session.connection()
            assert await connection.run_sync(triggers_stand, world.Document.__table__.c.report)
            assert len(await connection.run_sync(world.freed)) == 1
            await session.commit()
        assert len(world.objects()) == 1
        async with async_engine.begin() as connection:
            assert await connection.run_sync(world.freed) == []
            await connection.execute(delete(world.Document.__table__))
            assert await connection.run_sync(world.freed) == list(world.objects())
            await connection.run_sync(world.metadata.drop_all)
        await async_engine.dispose()

    asyncio.run(scenario())
