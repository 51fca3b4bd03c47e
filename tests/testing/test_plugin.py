"""The pytest plugin in small test suites of its own, as an application would write them, on every database."""

from __future__ import annotations

import asyncio  # noqa: F401 - see below
import textwrap

import pytest
import sqlalchemy.ext.asyncio  # noqa: F401 - pytester forgets modules that are first imported in its run; these stay
from sqlalchemy import Engine

import granite_storage.orm.session_events
import granite_storage.testing.plugin  # noqa: F401 - likewise
from tests.databases import Database

pytest_plugins = ["pytester"]

APP = """
    from sqlalchemy import String
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
    from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None] = mapped_column(String(50))
        report: FileMapped[StoredFile | None] = FileColumn("documents")
        cover: FileMapped[StoredFile | None] = FileColumn("covers")

    manager = StorageManager(
        {"disk": "file://FOLDER", "other": "memory://"},
        {
            "documents": StoragePolicy("documents", "disk", key_prefix="docs"),
            "covers": StoragePolicy("covers", "other"),
        },
    )
    manager.attach(Base)
"""

CONFTEST = """
    import pytest
    from sqlalchemy.orm import Session
    from tests.databases import make_engine
    import app

    pytest_plugins = ["granite_storage.testing.plugin"]

    @pytest.fixture(scope="session")
    def storage_manager():
        return app.manager

    @pytest.fixture(scope="session")
    def engine():
        engine = make_engine("URL")
        app.Base.metadata.create_all(engine)
        yield engine
        engine.dispose()
"""

COMMITTING = """
    @pytest.fixture
    def session(engine, stored_files):
        with Session(engine) as session:
            yield session
"""

ROLLED_BACK = """
    @pytest.fixture
    def session(engine, stored_files):
        with engine.connect() as connection:
            transaction = connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                yield session
            transaction.rollback()
"""

TESTS = """
    from granite_storage import Upload
    from app import Document

    def names(refs):
        return [ref.original_filename for ref in refs]

    def add(session, name, **members):
        document = Document(report=Upload(name.encode(), filename=name), **members)
        session.add(document)
        session.commit()
        return document
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, engine: Engine) -> Suite:
    """A test suite with an application and its conftest, on this test's database."""
    return Suite(pytester, engine.url.render_as_string(hide_password=False))


class Suite:
    def __init__(self, pytester: pytest.Pytester, url: str) -> None:
        self.pytester = pytester
        self.files = pytester.path / "files"
        pytester.syspathinsert()
        pytester.makepyfile(app=textwrap.dedent(APP).replace("FOLDER", str(self.files)))
        self._conftest = textwrap.dedent(CONFTEST).replace("URL", url)

    def declare_triggers(self) -> None:
        """Let the application's fields have triggers."""
        app = (self.pytester.path / "app.py").read_text().replace('("documents")', '("documents", trigger=True)')
        self.pytester.makepyfile(app=app)

    def run(self, session: str, *tests: str) -> pytest.RunResult:
        self.pytester.makeconftest(self._conftest + textwrap.dedent(session))
        self.pytester.makepyfile("\n".join(textwrap.dedent(part) for part in (TESTS, *tests)))
        return self.pytester.runpytest("-p", "no:cacheprovider", "-p", "no:randomly")


@pytest.mark.parametrize("session", [COMMITTING, ROLLED_BACK], ids=["committing", "rolled-back"])
def test_it_shows_what_was_stored_and_freed(suite: Suite, session: str) -> None:
    result = suite.run(
        session,
        """
        def test_stored(session, stored_files):
            document = add(session, "report.pdf")
            assert names(stored_files.stored) == ["report.pdf"]
            assert stored_files.stored == [document.report]
            assert stored_files.read(stored_files.stored[0]) == stored_files.read(document.report) == b"report.pdf"
            assert stored_files.objects() == stored_files.objects("disk") == [document.report.location]
            assert stored_files.objects("other") == []
            assert stored_files.freed == stored_files.discarded == stored_files.deleted == []

        def test_each_test_begins_with_nothing(session, stored_files):
            assert stored_files.objects() == stored_files.stored == stored_files.deleted == []

        def test_in_the_order_of_the_fields(session, stored_files):
            expected = []
            for number in range(20):
                members = {
                    field: Upload(b"x" * (1 if number % 2 else 100_000), filename=f"{number}-{field}")
                    for field in ("report", "cover")
                }
                expected += [f"{number}-{field}" for field in members]
                session.add(Document(**members))
            session.commit()
            assert names(stored_files.stored) == expected

        def test_freed(session, stored_files):
            documents = [add(session, name) for name in "abc"]
            documents[0].report = Upload(b"new", filename="new")
            documents[1].report = None
            session.delete(documents[2])
            session.commit()
            assert names(stored_files.stored) == ["a", "b", "c", "new"]
            assert sorted(names(stored_files.freed)) == ["a", "b", "c"]

        def test_a_rollback_frees_nothing(session, stored_files):
            document = add(session, "kept")
            document.report = Upload(b"lost", filename="lost")
            session.flush()
            assert len(stored_files.objects()) == 2
            session.rollback()
            assert names(stored_files.stored) == ["kept"]
            assert stored_files.freed == []
            assert names(stored_files.discarded) == ["lost"]

        def test_savepoints(session, stored_files):
            document = add(session, "kept")
            released = add(session, "released")
            with session.begin_nested() as savepoint:
                document.report = Upload(b"lost", filename="lost")
                session.flush()
                savepoint.rollback()
            with session.begin_nested():
                released.report = Upload(b"new", filename="new")
            assert names(stored_files.stored) == ["kept", "released"]
            session.commit()
            assert names(stored_files.stored) == ["kept", "released", "new"]
            assert names(stored_files.freed) == ["released"]
            assert names(stored_files.discarded) == ["lost"]

        def test_what_the_manager_stores_itself(session, stored_files, storage_manager):
            file = storage_manager.store("documents", Upload(b"x", filename="early"))
            assert names(stored_files.stored) == ["early"]
            session.add(Document(report=file))
            session.commit()
            assert names(stored_files.stored) == ["early"]
            storage_manager.copy("covers", file)
            storage_manager.put_bytes(
                storage_key="covers", model_name="document", entity_id=1, field_name="cover", content=b"x",
                original_filename="by hand",
            )
            assert names(stored_files.stored) == ["early", "early", "by hand"]
            storage_manager.delete(stored_files.stored[2])
            storage_manager.delete(stored_files.stored[2])  # it is gone already
            assert names(stored_files.deleted) == ["by hand"]

        def test_a_copy_between_rows(session, stored_files):
            session.add(Document(report=add(session, "a").report))
            session.commit()
            assert names(stored_files.stored) == ["a", "a"]
            assert len(stored_files.objects()) == 2

        def test_what_fixtures_did_can_be_forgotten(session, stored_files):
            document = add(session, "a")
            stored_files.clear()
            assert stored_files.stored == []
            session.delete(document)
            session.commit()
            assert names(stored_files.freed) == ["a"]
            assert repr(stored_files).startswith("<StoredFiles stored: 0, freed: 1, discarded: 0, deleted: ")
        """,
    )
    result.assert_outcomes(passed=9)
    assert [path for path in suite.files.rglob("*") if path.is_file()] == []


def test_committed_transactions_delete_what_they_free(suite: Suite) -> None:
    result = suite.run(
        COMMITTING,
        """
        def test_deleted(session, stored_files):
            document = add(session, "old")
            document.report = Upload(b"new", filename="new")
            session.commit()
            assert names(stored_files.deleted) == ["old"]
            document.report = Upload(b"lost", filename="lost")
            session.flush()
            session.rollback()
            assert names(stored_files.deleted) == ["old", "lost"]
            assert stored_files.objects() == [document.report.location]
        """,
    )
    result.assert_outcomes(passed=1)


def test_nothing_is_deleted_while_an_outer_transaction_is_open(suite: Suite) -> None:
    result = suite.run(
        ROLLED_BACK,
        """
        def test_kept(session, stored_files):
            document = add(session, "old")
            document.report = Upload(b"new", filename="new")
            session.commit()
            session.delete(document)
            session.commit()
            assert names(stored_files.freed) == ["old", "new"]
            assert stored_files.deleted == []
            assert [stored_files.read(ref) for ref in stored_files.freed] == [b"old", b"new"]

        def test_rows_are_rolled_back_between_tests(session):
            assert session.query(Document).count() == 0
        """,
    )
    result.assert_outcomes(passed=2)


ASYNC = """
    import asyncio
    from contextlib import asynccontextmanager
    from sqlalchemy import event, make_url
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    @asynccontextmanager
    async def opened(rolled_back):
        options = {"isolation_level": None} if make_url("ASYNC_URL").get_backend_name() == "sqlite" else {}
        engine = create_async_engine("ASYNC_URL", connect_args=options)
        if options:
            event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        if rolled_back:
            async with engine.connect() as connection:
                transaction = await connection.begin()
                async with AsyncSession(
                    connection, join_transaction_mode="create_savepoint", expire_on_commit=False
                ) as session:
                    yield session
                await transaction.rollback()
        else:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                yield session
        await engine.dispose()

    @pytest.fixture(params=[False, True], ids=["committing", "rolled-back"])
    def rolled_back(request):
        return request.param
"""


@pytest.mark.databases("sqlite", "postgresql")
def test_it_watches_asynchronous_sessions(suite: Suite, database: Database) -> None:
    url = database.url_through({"sqlite": "aiosqlite", "postgresql": "asyncpg"}[database.name])
    result = suite.run(
        ASYNC.replace("ASYNC_URL", url.render_as_string(hide_password=False)),
        """
        import asyncio
        from conftest import opened

        def test_awaited(stored_files, storage_manager, engine, rolled_back):
            async def application():
                async with opened(rolled_back) as session:
                    document = Document(report=Upload(b"old", filename="old"))
                    session.add(document)
                    await session.commit()
                    document.report = Upload(b"new", filename="new")
                    await session.commit()
                    document.report = Upload(b"lost", filename="lost")
                    await session.flush()
                    await session.rollback()
                    assert names(stored_files.stored) == ["old", "new"]
                    assert names(stored_files.freed) == ["old"]
                    assert names(stored_files.discarded) == ["lost"]
                    assert names(stored_files.deleted) == ([] if rolled_back else ["old", "lost"])
                await storage_manager.astore("covers", Upload(b"x", filename="early"))
                assert names(stored_files.stored) == ["old", "new", "early"]

            asyncio.run(application())
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_test_that_does_not_look_stores_in_memory_too(suite: Suite) -> None:
    result = suite.run(
        COMMITTING.replace("stored_files", "memory_storage"),
        """
        def test_kept(session, memory_storage):
            location = add(session, "a").report.location
            assert list(memory_storage.backends["disk"].iter_locations("docs")) == [location]
        """,
    )
    result.assert_outcomes(passed=1)
    assert [path for path in suite.files.rglob("*") if path.is_file()] == []


def test_a_watched_test_leaves_the_manager_as_it_was(suite: Suite) -> None:
    result = suite.run(
        "",
        """
        def test_watched(stored_files, storage_manager):
            assert len(storage_manager.observers) == 1

        def test_afterwards(storage_manager):
            assert storage_manager.observers == []
            assert storage_manager.backends["disk"].backend_name == "local"
        """,
    )
    result.assert_outcomes(passed=2)


def _run_alone(pytester: pytest.Pytester, conftest: str) -> pytest.RunResult:
    pytester.makeconftest(textwrap.dedent(conftest))
    pytester.makepyfile("def test_it(stored_files): pass")
    return pytester.runpytest("-p", "granite_storage.testing.plugin", "-p", "no:cacheprovider")


def test_without_a_storage_manager_it_says_what_to_define(pytester: pytest.Pytester) -> None:
    result = _run_alone(pytester, "")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*needs the application's storage manager*conftest.py*", "*@pytest.fixture*", "*def storage_manager():*"]
    )


def test_a_storage_manager_that_is_none_is_told(pytester: pytest.Pytester) -> None:
    result = _run_alone(pytester, "import pytest\n\n@pytest.fixture\ndef storage_manager(): return {}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture storage_manager gives dict; let it return a StorageManager*"])


@pytest.mark.parametrize("trigger", [False, True], ids=["outbox", "triggers"])
@pytest.mark.parametrize("session", [COMMITTING, ROLLED_BACK], ids=["committing", "rolled-back"])
def test_it_shows_what_bulk_statements_stored_and_freed(suite: Suite, session: str, trigger: bool) -> None:
    if trigger:
        suite.declare_triggers()
    result = suite.run(
        session,
        """
        from sqlalchemy import delete, insert, update

        def test_bulk(session, stored_files):
            uploads = [Upload(name.encode(), filename=name) for name in "abc"]
            session.execute(insert(Document), [{"title": one.filename, "report": one} for one in uploads])
            session.commit()
            assert names(stored_files.stored) == ["a", "b", "c"]
            session.execute(delete(Document).where(Document.title == "a"))
            session.execute(update(Document).where(Document.title == "b").values(report=None))
            session.query(Document).filter_by(title="c").delete()
            assert stored_files.freed == []
            session.commit()
            assert names(stored_files.freed) == ["a", "b", "c"]
            session.execute(insert(Document), [{"report": Upload(b"d", filename="d")}])
            session.rollback()
            assert names(stored_files.discarded) == ["d"]
        """,
    )
    result.assert_outcomes(passed=1)
