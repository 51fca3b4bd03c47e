"""Fixtures for every test, and the last lines of a test run: which databases and servers it ran on.

The controller asks once which databases answer and tells the workers through ``GRANITE_TEST_DATABASES``, so that all
collect the same tests. A database that does not answer has no tests (none is skipped), and the last lines say so. With
``GRANITE_REQUIRE=all`` in the environment its absence is an error.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
from sqlalchemy import Engine, pool

from tests.databases import NAMES, Database, entry_url, make_engine, probe

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

_ANSWERING = "GRANITE_TEST_DATABASES"
_REASONS = pytest.StashKey[dict[str, str]]()
_NO_DATABASE = "no-database"


@pytest.fixture(scope="session")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[Database]:
    """This worker's own database, once per database that answers; a test that writes to it takes ``engine``."""
    made = Database.create(request.param, tmp_path_factory.mktemp("databases"), worker_id)
    yield made
    made.drop()


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """An engine on an empty database, once per database that answers; its transactions and savepoints are real."""
    made = database.engine()
    yield made
    made.dispose()
    database.clear()


@pytest.fixture
def memory_engine() -> Iterator[Engine]:
    """An engine on one connection to SQLite in memory, for tests whose subject is not the database."""
    made = make_engine(entry_url("sqlite_memory"), poolclass=pool.StaticPool)
    yield made
    made.dispose()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket on the test run's S3 server."""

    name: str
    endpoint_url: str
    client: Any

    def url(self, prefix: str = "") -> str:
        """The backend URL of the bucket, or of a prefix in it."""
        return f"s3://{self.name}/{prefix}?region=us-east-1&endpoint_url={quote(self.endpoint_url, safe='')}"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 server (moto, in this process), with credentials for it in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> Iterator[Bucket]:
    """A new bucket and a client for it."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    name = f"granite-{uuid.uuid4()}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, s3_endpoint, client)
    client.close()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    reasons = {name: reason for name in NAMES if (reason := probe(entry_url(name)))}
    if reasons and os.environ.get("GRANITE_REQUIRE") == "all":
        missing = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise pytest.UsageError(f"GRANITE_REQUIRE=all, but {missing}")
    config.stash[_REASONS] = reasons
    os.environ[_ANSWERING] = ",".join(name for name in NAMES if name not in reasons)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" not in metafunc.fixturenames:
        return
    wanted = [name for mark in metafunc.definition.iter_markers("databases") for name in mark.args] or NAMES
    if unknown := set(wanted) - set(NAMES):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: no test database is named {', '.join(sorted(unknown))}")
    answering = os.environ[_ANSWERING].split(",")
    names = [name for name in NAMES if name in wanted and name in answering]
    metafunc.parametrize("database", names or [_NO_DATABASE], indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests all of whose databases are missing: pytest would make a skip of them."""
    unrunnable = [item for item in items if _database_of(item) == _NO_DATABASE]
    if unrunnable:
        config.hook.pytest_deselected(items=unrunnable)
        items[:] = [item for item in items if item not in unrunnable]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note on the test's report, which travels to the controller, what it ran on."""
    name = _database_of(item)
    if name is not None:
        item.user_properties.append(("ran on", name))
    if "s3_endpoint" in getattr(item, "fixturenames", ()):
        item.user_properties.append(("ran on", "moto"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield  # all other summaries first
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    ran = Counter(value for report in reports for name, value in report.user_properties if name == "ran on")
    reasons = config.stash.get(_REASONS, {})
    told = [f"{name} {_told(ran[name], reasons.get(name))}" for name in NAMES]
    terminalreporter.write_line(f"databases: {'; '.join(told)}")
    terminalreporter.write_line(f"S3 servers: moto {_told(ran['moto'], None)}")


def _database_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("database")


def _told(tests: int, reason: str | None) -> str:
    if reason is not None:
        return f"NOT RUN ({reason})"
    return f"ran ({tests} test{'s' * (tests != 1)})" if tests else "not run (no test of it was chosen)"
