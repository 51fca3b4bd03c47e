"""Fixtures for every test, and the last lines of a test run: which databases and servers it ran on.

The controller asks once which databases and S3 servers answer and tells the workers through ``GRANITE_TEST_SERVERS``,
so that all collect the same tests. One that does not answer has no tests (none is skipped), and the last lines say so.
With ``GRANITE_REQUIRE=all`` in the environment its absence is an error.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
from sqlalchemy import Engine, pool

from tests import databases, s3_servers
from tests.databases import Database, entry_url, make_engine, probe
from tests.s3_servers import S3Server

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

_ANSWERING = "GRANITE_TEST_SERVERS"
_REASONS = pytest.StashKey[dict[str, str]]()
_NONE = "none-answers"


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
    """An empty bucket on one of the test run's S3 servers."""

    name: str
    endpoint_url: str
    client: Any
    server: S3Server

    def url(self, prefix: str = "") -> str:
        """The backend URL of the bucket, or of a prefix in it, with the options that the server needs."""
        return self.server.url(self.name, prefix)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """This worker's moto, started when the first test asks for it."""
    with s3_servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """An S3 server, with credentials for it in the environment.

    It is moto, unless the test says ``@pytest.mark.s3_servers("moto", "rgw")``: then each of those that answers.
    """
    name = getattr(request, "param", "moto")
    server = request.getfixturevalue("moto_server") if name == "moto" else s3_servers.entry(name)
    with pytest.MonkeyPatch.context() as patch:
        for variable in (
            "AWS_PROFILE",
            "AWS_SESSION_TOKEN",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_CA_BUNDLE",
        ):
            patch.delenv(variable, raising=False)
        for variable, value in server.environment.items():
            patch.setenv(variable, value)
        yield server


@pytest.fixture(scope="session")
def s3_endpoint(s3_server: S3Server) -> str:
    """The URL of the S3 server."""
    return s3_server.endpoint_url


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[Bucket]:
    """A new bucket and a client for it; with all that a test leaves in it, it is removed at the end."""
    client = s3_server.client()
    name = f"granite-{uuid.uuid4()}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, s3_server.endpoint_url, client, s3_server)
    if s3_server.name != "moto":  # which ends soon
        s3_servers.remove_bucket(client, name)
    client.close()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    reasons = {name: reason for name in databases.NAMES if (reason := probe(entry_url(name)))}
    reasons |= {name: reason for name in s3_servers.NAMES if (reason := s3_servers.probe(name))}
    if reasons and os.environ.get("GRANITE_REQUIRE") == "all":
        missing = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise pytest.UsageError(f"GRANITE_REQUIRE=all, but {missing}")
    config.stash[_REASONS] = reasons
    names = (*databases.NAMES, *s3_servers.NAMES)
    os.environ[_ANSWERING] = ",".join(name for name in names if name not in reasons)


def answering_databases() -> list[str]:
    """The names of the databases that the tests of this run have."""
    return [name for name in os.environ[_ANSWERING].split(",") if name in databases.NAMES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = [name for mark in metafunc.definition.iter_markers("databases") for name in mark.args]
    _parametrize(metafunc, "database", databases.NAMES, marked or databases.NAMES)
    marked = [name for mark in metafunc.definition.iter_markers("s3_servers") for name in mark.args]
    if marked:
        _parametrize(metafunc, "s3_server", s3_servers.NAMES, marked)


def _parametrize(metafunc: pytest.Metafunc, fixture: str, known: Sequence[str], wanted: Sequence[str]) -> None:
    if fixture not in metafunc.fixturenames:
        return
    if unknown := set(wanted) - set(known):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: no {fixture} is named {', '.join(sorted(unknown))}")
    answering = os.environ[_ANSWERING].split(",")
    names = [name for name in known if name in wanted and name in answering]
    metafunc.parametrize(fixture, names or [_NONE], indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests all of whose databases or servers are missing: pytest would make a skip of them."""
    unrunnable = [item for item in items if _NONE in (_param(item, "database"), _param(item, "s3_server"))]
    if unrunnable:
        config.hook.pytest_deselected(items=unrunnable)
        items[:] = [item for item in items if item not in unrunnable]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note on the test's report, which travels to the controller, what it ran on."""
    if (name := _param(item, "database")) is not None:
        item.user_properties.append(("ran on", name))
    if "s3_server" in getattr(item, "fixturenames", ()):
        item.user_properties.append(("ran on", _param(item, "s3_server") or "moto"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield  # all other summaries first
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    ran = Counter(value for report in reports for name, value in report.user_properties if name == "ran on")
    reasons = config.stash.get(_REASONS, {})
    told = [f"{name} {_told(ran[name], reasons.get(name))}" for name in databases.NAMES]
    terminalreporter.write_line(f"databases: {'; '.join(told)}")
    histories = sum(value for report in reports for name, value in report.user_properties if name == "histories")
    if histories:
        terminalreporter.write_line(f"random histories: {histories} ran")
    told = [f"{name} {_told(ran[name], reasons.get(name))}" for name in s3_servers.NAMES]
    terminalreporter.write_line(f"S3 servers: {'; '.join(told)}")


def _param(item: pytest.Item, fixture: str) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get(fixture)


def _told(tests: int, reason: str | None) -> str:
    if reason is not None:
        return f"NOT RUN ({reason})"
    return f"ran ({tests} test{'s' * (tests != 1)})" if tests else "not run (no test of it was chosen)"
