"""The zygote that children are forked from, and a database whose tables stay between cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Bucket
from tests.crash.worlds import CrashWorld
from tests.crash.zygote import Zygote
from tests.databases import Database
from tests.s3_servers import S3Server


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote(tmp_path_factory.mktemp("zygote"), S3Server("moto", "").environment)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tables(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with the tables; a case empties them, which is faster than making them."""
    world = CrashWorld(database.url.render_as_string(hide_password=False), f"file://{tmp_path_factory.mktemp('none')}")
    world.Base.metadata.create_all(world.engine)
    world.close()
    yield database
    database.clear()


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """The URL of a backend with nothing in it. No power fails here: what a process wrote is there."""
    return f"file://{tmp_path}/stored?fsync=false"


@pytest.fixture
def world(tables: Database, storage: str) -> Iterator[CrashWorld]:
    """The tables and the storage, with the files that a case begins with."""
    made = CrashWorld(tables.url.render_as_string(hide_password=False), storage)
    made.fill()
    yield made
    made.close()


@pytest.fixture
def s3_world(tables: Database, s3_bucket: Bucket) -> Iterator[CrashWorld]:
    """The same in a bucket; files of more than 5 MiB travel in parts."""
    storage = f"{s3_bucket.url('stored')}&part_size={5 * 2**20}"
    made = CrashWorld(tables.url.render_as_string(hide_password=False), storage)
    made.fill()
    yield made
    made.close()
