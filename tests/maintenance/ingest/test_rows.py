"""Which rows are converted, whatever their primary keys are, and what becomes of those that cannot be."""

from __future__ import annotations

import datetime
import logging
import sqlite3
import threading
import time
import uuid
from contextlib import closing, contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import (
    Column,
    Date,
    Enum,
    Integer,
    LargeBinary,
    String,
    Table,
    Uuid,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from granite_storage import (
    ConfigurationError,
    ConversionError,
    OwnershipError,
    StorageManager,
    StoragePolicy,
    StoredObjectRefType,
)
from granite_storage.exceptions import UploadExpiredError
from granite_storage.locations import new_location
from granite_storage.maintenance import row_locks
from granite_storage.maintenance.ingest import Conversion, ingest, keyed_table, put_back, putting_back
from tests.databases import make_engine
from tests.maintenance.ages import waiting_updates
from tests.maintenance.forbidden import forbid_changes
from tests.maintenance.ingest.archives import Archive
from tests.maintenance.watching import asked

KEYS = {
    "text": ([Column("key", String(50), primary_key=True)], [("b",), ("A",), ("öx",), ("a'b%s:c",), ("zz",)]),
    "two": (
        [Column("a", Integer, primary_key=True, autoincrement=False), Column("b", String(9), primary_key=True)],
        [(1, "x"), (1, "y"), (2, "a"), (3, "x"), (3, "y")],
    ),
    "uuid": ([Column("key", Uuid, primary_key=True)], [(uuid.uuid5(uuid.NAMESPACE_DNS, str(n)),) for n in range(5)]),
    "date": ([Column("key", Date, primary_key=True)], [(datetime.date(2020, 1, n),) for n in range(1, 6)]),
    "enum": ([Column("key", Enum(*"zamby", name="keys"), primary_key=True)], [(name,) for name in "zamby"]),
    "quoted": ([Column("the key: 100%", Integer, primary_key=True)], [(n,) for n in range(1, 6)]),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_primary_key_will_do(archive, kind, batch_size):
    columns, keys = KEYS[kind]
    table = Table(
        "The Table",
        archive.Base.metadata,
        *(column._copy() for column in columns),
        Column("old: 100%", LargeBinary),
        Column("new: 100%", StoredObjectRefType("documents")),
    )
    table.metadata.create_all(archive.engine)
    names = [column.name for column in columns]
    with archive.engine.begin() as connection:
        for number, key in enumerate(keys):
            row = {**dict(zip(names, key, strict=True)), "old: 100%": b"content %d" % number}
            connection.execute(insert(table).values({table.c[name]: value for name, value in row.items()}))
    conversion = Conversion(
        table=table.name, old="old: 100%", new="new: 100%", policy="documents", batch_size=batch_size, registry="none"
    )
    assert ingest(archive.engine, archive.manager, conversion).rows == 5
    with archive.engine.connect() as connection:
        refs = connection.scalars(select(table.c["new: 100%"])).all()
    assert sorted(archive.manager.get(one) for one in refs) == [b"content %d" % number for number in range(5)]
    assert put_back(archive.engine, archive.manager, conversion).kept == 5


@pytest.mark.databases("sqlite")
def test_rows_whose_key_is_null_are_left_and_told(archive):
    with archive.engine.begin() as connection:
        connection.execute(text("CREATE TABLE odd (key TEXT PRIMARY KEY, old BLOB, new JSON)"))
        connection.execute(text("INSERT INTO odd (key, old) VALUES (NULL, 'a'), (NULL, 'b'), ('c', x'00')"))
    archive.declare("odd", "new")
    conversion = Conversion(table="odd", old="old", new="new", policy="documents", registry="none")
    with pytest.raises(ConversionError, match=r"2 rows are left.*key that is NULL"):
        ingest(archive.engine, archive.manager, conversion)


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(("value", "kind"), [("'text'", "bytes"), ("5", "bytes"), ("5", "text"), ("x'00'", "text")])
def test_sqlite_values_of_another_type_are_errors_by_row(archive, value, kind):
    archive.add({}, {"note": "text", "body": b"bytes"})
    column = "body" if kind == "bytes" else "note"
    with archive.engine.begin() as connection:
        connection.execute(text("CREATE TABLE loose (id INTEGER PRIMARY KEY, old, new JSON)"))
        connection.execute(text(f"INSERT INTO loose (id, old) SELECT id, {column} FROM document WHERE id = 2"))
        connection.execute(text(f"INSERT INTO loose (id, old) VALUES (1, {value})"))
    archive.declare("loose", "new")
    conversion = Conversion(
        table="loose", old="old", new="new", policy="documents", kind=kind, on_error="skip", registry="none"
    )
    report = ingest(archive.engine, archive.manager, conversion)
    assert [failure.key for failure in report.failures] == [(1,)]
    assert "it holds" in str(report.failures[0])
    assert report.rows == 1


def test_a_null_of_json_counts_as_no_file(archive):
    archive.add({"body": b"one"}, {"body": None})
    archive.set(1, report="null")
    archive.set(2, report="null")
    assert archive.ingest("body").total == 1
    assert archive.file(1).read() == b"one"


def test_what_the_policy_refuses_is_named_and_the_rest_is_done(archive, caplog):
    archive.manager._policies["documents"] = StoragePolicy("documents", "store", max_size=5)
    archive.add(*({"body": b"x" * size, "name": "secret.txt"} for size in (3, 9, 4, 8)))
    with pytest.raises(ConversionError) as caught:
        archive.ingest("body", batch_size=2)
    assert [failure.row for failure in caught.value.failures] == ["document (id=2)"]
    assert archive.files() == {1: b"xxx", 2: None, 3: None, 4: None}
    with caplog.at_level(logging.INFO, "granite_storage"):
        report = archive.ingest("body", on_error="skip", filename_column="name")
    assert [failure.key for failure in report.failures] == [(2,), (4,)]
    assert (report.rows, report.failed) == (1, 2)
    assert archive.files() == {1: b"xxx", 2: None, 3: b"xxxx", 4: None}
    assert archive.objects() == archive.named()
    assert "document (id=4) was not converted: ContentTooLargeError" in caplog.text
    assert "secret" not in caplog.text


def test_the_log_tells_every_few_seconds_how_far_it_is(archive, caplog, monkeypatch):
    archive.add(*({"body": b"x"} for _ in range(12)))
    seconds = iter(range(0, 1000, 2))  # between two batches
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("granite_storage.maintenance.ingest.reporting.time", clock)
    with caplog.at_level(logging.INFO, "granite_storage.ingest"):
        archive.ingest("body", batch_size=1)
    told = [record.getMessage() for record in caplog.records if record.name == "granite_storage.ingest"]
    assert told[0] == "document.body into report: 12 rows to convert"
    assert told[-1] == "document.body into report: converted 12 of 12 rows, 12 bytes"
    assert 2 <= len(told[1:-1]) < 12
    assert "of 12 rows" in told[1]


def test_another_owner_is_refused_before_a_byte_is_stored(archive, tmp_path):
    archive.add({"body": b"one"})
    other = StorageManager({"store": (tmp_path / "store").as_uri()}, archive.manager.policies, owner="somebody")
    other.store("documents", b"theirs")
    archive.manager.ownership.forget([archive.backend])
    before = archive.objects()
    with pytest.raises(OwnershipError):
        archive.ingest("body")
    assert archive.objects() == before
    assert archive.files() == {1: None}


def test_the_database_is_marked_at_the_prefix(archive):
    archive.add({"body": b"one"})
    archive.ingest("body")
    assert len(archive.manager.ownership.databases(archive.backend, "documents")) == 1


def test_observers_are_told(archive):
    archive.add({"body": b"one"}, {"body": b"two"})
    changes = []
    archive.manager.observers.append(changes.append)
    archive.ingest("body")
    archive.put_back("body")
    stored, freed = changes
    assert {ref.location for ref in stored.stored} == archive.objects() == {ref.location for ref in freed.freed}


@pytest.mark.parametrize("verify", [False, True])
def test_what_the_store_has_not_whole_is_given_to_no_row(archive, verify):
    archive.add({"body": b"one"}, {"body": b"two"})
    put = archive.backend.put_stream

    def broken(**arguments):
        ref = put(**arguments)
        with archive.backend.local_path(ref) as path:
            path.write_bytes(b"xxx" if verify else b"x")
        return ref

    archive.backend.put_stream = broken
    with pytest.raises(Exception, match=r"than its ref says|but its ref says"):
        archive.ingest("body", verify=verify)
    assert archive.files() == {1: None, 2: None}
    assert archive.objects() == set()


def test_a_batch_that_took_too_long_is_not_written(archive, monkeypatch):
    archive.add({"body": b"one"})
    began = int((time.time() - 0.9 * archive.manager.grace.total_seconds()) * 1000)
    monkeypatch.setattr("granite_storage.manager.new_location", partial(new_location, milliseconds=began))
    with pytest.raises(Exception, match="smaller batch_size"):
        archive.ingest("body")
    assert archive.files() == {1: None}
    assert archive.objects() == set()


def test_a_batch_that_grows_too_old_while_a_lock_is_waited_for_is_not_written(archive, monkeypatch):
    archive.add({"body": b"one"}, {"body": b"two"})

    def sweep():
        for location in archive.objects():
            archive.backend.delete(SimpleNamespace(location=location))

    with (
        waiting_updates(archive.engine, monkeypatch, 0.9 * archive.manager.grace, sweep) as clock,
        pytest.raises(UploadExpiredError, match="waiting for locks that others hold"),
    ):
        archive.ingest("body")
    assert archive.files() == {1: None, 2: None}
    clock.late = datetime.timedelta(0)
    assert archive.ingest("body").rows == 2
    assert archive.files() == {1: b"one", 2: b"two"}
    assert archive.objects() == archive.named()


def test_a_batch_that_grew_too_old_is_undone_on_a_connection_of_the_caller(archive, monkeypatch):
    archive.add({"body": b"one"})
    with (
        archive.engine.connect() as connection,
        waiting_updates(archive.engine, monkeypatch, 0.9 * archive.manager.grace, lambda: None),
    ):
        with pytest.raises(UploadExpiredError):
            ingest(connection, archive.manager, archive.conversion("body"))
        connection.commit()
    assert archive.files() == {1: None}
    assert archive.objects() == set()


def test_a_row_that_the_database_will_not_change_is_named_and_the_others_are_done(archive):
    _one_is_refused(archive, deferred=False)


@pytest.mark.databases("postgresql")
def test_a_row_that_would_be_refused_at_the_commit_is_named_and_the_others_are_done(archive):
    _one_is_refused(archive, deferred=True)


def _one_is_refused(archive, *, deferred):
    archive.add({"body": b"one"}, {"body": b"two"}, {"body": b"three"})
    forbid_changes(archive.engine, 2, deferred=deferred)
    report = archive.ingest("body", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (2, [(2,)])
    assert "the database refuses to change the row" in str(report.failures[0])
    assert archive.files() == {1: b"one", 2: None, 3: b"three"}
    assert archive.objects() == archive.named()
    with pytest.raises(ConversionError, match=r"document \(id=2\): the database refuses to change the row"):
        archive.ingest("body")
    assert archive.objects() == archive.named()


@pytest.mark.parametrize(
    "deferred", [False, pytest.param(True, marks=pytest.mark.databases("postgresql"))], ids=["at once", "at the commit"]
)
def test_a_row_that_the_database_will_not_change_is_named_on_the_way_back(archive, deferred):
    archive.add({"body": b"one"}, {"body": b"two"}, {"body": b"three"})
    archive.ingest("body")
    forbid_changes(archive.engine, 2, deferred=deferred)
    report = archive.put_back("body", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (2, [(2,)])
    assert archive.files() == {1: None, 2: b"two", 3: None}
    assert archive.objects() - archive.freed() == archive.named()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_lock_of_somebody_else_is_no_fault_of_a_row(archive):
    archive.add({"body": b"one"}, {"body": b"two"})
    forbid_changes(archive.engine, 2, locked=True)
    with pytest.raises(OperationalError):
        archive.ingest("body", on_error="skip")
    assert archive.files() == {1: None, 2: None}


@pytest.mark.databases("postgresql")
def test_what_would_fail_for_each_row_is_no_fault_of_a_row(archive):
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE plain (id int PRIMARY KEY, body bytea, report text)")
        connection.exec_driver_sql("INSERT INTO plain VALUES (1, 'one'), (2, 'two')")
    archive.declare("plain")
    conversion = Conversion(
        table="plain", old="body", new="report", policy="documents", on_error="skip", outbox="granite_storage_outbox"
    )
    ingest(archive.engine, archive.manager, conversion)
    with pytest.raises(ProgrammingError, match="operator does not exist"):  # ->> of a text
        put_back(archive.engine, archive.manager, conversion)


@pytest.fixture(params=["in", "back"])
def one_way(request, archive):
    """A table of three rows, and what converts them, either way; gives the keys of the rows that are done by now."""
    contents = [b"one", b"two", b"three"]
    archive.add(*({"body": content} for content in contents))
    if request.param == "back":
        archive.ingest("body")

    def convert(**options):
        return (archive.put_back if request.param == "back" else archive.ingest)("body", **options)

    def done():
        files = archive.files()
        for number, content in files.items():  # whatever was done, nothing is lost
            assert content == contents[number - 1] or archive.old("body")[number] == contents[number - 1]
        return {number for number, content in files.items() if (content is None) == (request.param == "back")}

    return convert, done


@contextmanager
def _locked(archive, number):
    """Somebody holds a row locked."""
    with archive.engine.connect() as connection:
        connection.execute(text(f"SELECT id FROM document WHERE id = {number} FOR UPDATE"))
        yield connection


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_locked_row_is_not_waited_for_and_is_left_for_the_next_run(archive, one_way, monkeypatch, batch_size):
    convert, done = one_way
    monkeypatch.setattr(row_locks, "_FIRST_PAUSE", 0.001)
    with _locked(archive, 2):
        report = convert(on_error="skip", batch_size=batch_size)
    assert ([failure.key for failure in report.failures], report.rows) == ([(2,)], 2)
    assert "holds the row locked, or this role may not change it; run it again" in str(report.failures[0].error)
    assert done() == {1, 3}
    assert archive.objects() - archive.freed() == archive.named()
    assert convert().rows == 1
    assert done() == {1, 2, 3}


@pytest.mark.databases("postgresql", "mariadb")
def test_a_row_whose_lock_is_let_go_of_is_done_in_the_same_run(archive, one_way, monkeypatch):
    convert, done = one_way
    stored = len(archive.objects())
    with _locked(archive, 2) as connection:
        monkeypatch.setattr(row_locks.time, "sleep", lambda seconds: connection.rollback())
        report = convert()
    assert (report.rows, report.failed) == (3, 0)
    assert done() == {1, 2, 3}
    assert len(archive.objects()) == max(stored, 3)  # nothing was stored twice


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize(
    ("change", "there"),
    [("DELETE FROM document", {1: b"one", 3: b"three"}), ("UPDATE document SET body = 'zwei', report = NULL", None)],
)
def test_a_row_that_is_gone_or_changed_behind_its_lock_is_no_failure(archive, one_way, monkeypatch, change, there):
    convert, _ = one_way

    def end(seconds):
        connection.execute(text(f"{change} WHERE id = 2"))
        connection.commit()

    with _locked(archive, 2) as connection:
        monkeypatch.setattr(row_locks.time, "sleep", end)
        report = convert()
    assert report.failed == 0
    assert archive.old("body") == (there or {1: b"one", 2: b"zwei", 3: b"three"})
    files = archive.files()
    if set(files.values()) != {None}:  # on the way in
        assert files == archive.old("body")
        assert archive.objects() == archive.named()


@pytest.mark.parametrize("now", [b"another", None])
def test_on_the_way_back_an_old_value_that_is_written_meanwhile_costs_no_file(archive, monkeypatch, now):
    archive.add({"body": b"one"}, {"body": b"two"})
    archive.ingest("body")
    real, once = putting_back._Putting._write, iter([True])

    def write(self, restored):
        if next(once, False):
            self._work.connection.execute(text("UPDATE document SET body = :body WHERE id = 2"), {"body": now})
            self._work.commit()
        return real(self, restored)

    monkeypatch.setattr(putting_back._Putting, "_write", write)
    assert archive.put_back("body").rows == 2
    assert archive.old("body") == {1: b"one", 2: b"two"}  # the file is the newer one, and has the last word
    assert archive.files() == {1: None, 2: None}


@pytest.mark.databases("mariadb")
def test_on_the_way_back_what_the_database_would_cut_is_an_error_by_row(archive):
    event.listen(archive.engine, "begin", lambda connection: connection.exec_driver_sql("SET sql_mode = ''"))
    archive.add({"note": "short"}, {"note": "x" * 100})
    archive.ingest("note", kind="text")
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE document SET note = NULL")
        connection.exec_driver_sql("ALTER TABLE document MODIFY note VARCHAR(20)")
    report = archive.put_back("note", kind="text", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (1, [(2,)])
    assert "does not hold all of its content" in str(report.failures[0].error)
    assert archive.old("note") == {1: "short", 2: None}
    assert archive.files() == {1: None, 2: b"x" * 100}


@pytest.mark.databases("postgresql")
def test_a_row_that_a_trigger_writes_by_itself_keeps_its_file(archive):
    archive.add({"body": b"one"}, {"body": b"two"})
    with archive.engine.begin() as connection:  # a table that is cut into children by hand
        connection.exec_driver_sql(
            "CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM document WHERE id = "
            "OLD.id; INSERT INTO document (id, body, report) VALUES (NEW.id, NEW.body, NEW.report); RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER by_hand BEFORE UPDATE ON document FOR EACH ROW EXECUTE FUNCTION by_hand()"
        )
    assert archive.ingest("body").rows == 2
    assert archive.files() == {1: b"one", 2: b"two"}
    assert archive.objects() == archive.named()


@pytest.mark.databases("mariadb")
def test_a_table_without_transactions_keeps_its_files(archive):
    archive.add({"body": b"one"}, {"body": b"two"}, {"body": b"three"})
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE document ENGINE = MyISAM")
    forbid_changes(archive.engine, 3)
    report = archive.ingest("body", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (2, [(3,)])
    assert archive.files() == {1: b"one", 2: b"two", 3: None}
    assert archive.objects() == archive.named()


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("state", ["AB123", "42501"])
def test_a_trigger_may_refuse_a_row_in_its_own_words(archive, one_way, state):
    convert, done = one_way
    forbid_changes(archive.engine, 2, state=state)
    report = convert(on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (2, [(2,)])
    assert done() == {1, 3}


# A file field that nobody asks


@pytest.mark.databases("postgresql")
def test_a_table_of_another_schema_is_another_one(archive):
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA other")
        connection.exec_driver_sql("CREATE TABLE other.document (id int PRIMARY KEY, body bytea, report jsonb)")
        connection.exec_driver_sql("INSERT INTO other.document VALUES (1, 'one')")
    with pytest.raises(ConfigurationError, match="no file field"):
        archive.ingest("body", schema="other")
    tenant = archive.engine.execution_options(schema_translate_map={None: "other"})
    assert ingest(tenant, archive.manager, archive.conversion("body", schema="other")).rows == 1


@pytest.mark.databases("postgresql")
def test_a_tenants_schema_has_a_registry_of_its_own_whose_mark_is_left(archive):
    archive.engine.dispose()
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE granite_storage_fields")
        connection.exec_driver_sql("CREATE SCHEMA other")
    tenant = archive.engine.execution_options(schema_translate_map={None: "other"})
    archive.Base.metadata.create_all(tenant)
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO other.document (id, body) VALUES (1, 'one')")
    assert archive.ingest("body", schema="other").rows == 1
    assert len([*archive.backend.iter_locations("documents/.granite-storage/databases")]) == 1


def test_a_database_that_no_model_is_asked_in_is_another_one(archive, memory_engine, tmp_path):
    other = Archive(memory_engine, tmp_path / "other")
    other.manager.attached[other.Base.metadata] = memory_engine
    archive.add({"body": b"one"})
    with archive.engine.begin() as connection:
        connection.execute(text("DROP TABLE granite_storage_fields"))
    with pytest.raises(ConfigurationError, match="no file field"):
        ingest(archive.engine, other.manager, other.conversion("body"))


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("key_type", ["float8", "numeric"])
def test_a_key_that_is_no_number_names_a_row_too(archive, key_type):
    with archive.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE odd (id {key_type} PRIMARY KEY, body bytea, report text)")
        connection.exec_driver_sql("INSERT INTO odd VALUES (1.5, 'one'), ('NaN', 'two')")
    archive.declare("odd")
    conversion = Conversion(table="odd", old="body", new="report", policy="documents")
    assert ingest(archive.engine, archive.manager, conversion).rows == 2


@pytest.mark.databases("postgresql")
def test_on_the_way_back_a_row_that_a_foreign_key_is_just_given_is_not_waited_for(engine, tmp_path, monkeypatch):
    archive = Archive(engine, tmp_path / "store")
    archive.add({"path": "one"}, {"path": "two"})
    archive.ingest("path", kind="text")
    monkeypatch.setattr(row_locks, "_FIRST_PAUSE", 0.001)
    with engine.begin() as connection:
        connection.execute(text("UPDATE document SET path = NULL"))
        connection.execute(text("CREATE UNIQUE INDEX one_path ON document (path)"))
        connection.execute(text("CREATE TABLE child (document int REFERENCES document (id))"))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO child VALUES (2)"))
        report = archive.put_back("path", kind="text", on_error="skip")
    assert (report.rows, [failure.key for failure in report.failures]) == (1, [(2,)])
    assert "holds the row locked" in str(report.failures[0].error)


@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one column", "two columns"])
def test_a_large_batch_is_named_in_several_statements(engine, tmp_path, names, monkeypatch):
    archive = Archive(engine, tmp_path / "store")
    monkeypatch.setattr(keyed_table, "_NAMED", 10)
    table = Table(
        "wide",
        archive.Base.metadata,
        *(Column(name, Integer, primary_key=True, autoincrement=False) for name in names),
        Column("body", LargeBinary),
        Column("report", StoredObjectRefType("documents")),
    )
    table.create(engine)
    rows = [{**dict.fromkeys(names, number), "body": b"%d" % number} for number in range(25)]
    changed = set(range(3, 21))

    def change(connection, cursor, statement, *rest):
        if changed and statement.startswith("UPDATE"):  # somebody else was first
            numbers = ", ".join(map(str, changed))
            changed.clear()
            cursor.execute(f"UPDATE wide SET body = {twice[engine.dialect.name]} WHERE a IN ({numbers})")

    twice = {
        "sqlite": "CAST(body || body AS BLOB)",
        "postgresql": "body || body",
        "mariadb": "CONCAT(body, body)",
    }
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    event.listen(engine, "before_cursor_execute", change)
    conversion = Conversion(table="wide", old="body", new="report", policy="documents", batch_size=1000, batch_bytes=20)
    with asked(engine, lambda statement: "UPDATE SKIP LOCKED" in statement) as locking:
        assert ingest(engine, archive.manager, conversion).rows == 25
    assert not changed
    assert all(len(parameters) <= 10 * len(names) for _, parameters in locking)
    assert len(locking) > 5 or engine.dialect.name == "sqlite"
    with Session(engine) as session:
        found = dict(session.execute(select(table.c.a, table.c.report)).all())
    contents = {number: archive.manager.file(ref.ref).read() for number, ref in found.items()}
    assert contents == {n: b"%d" % n * (2 if 3 <= n < 21 else 1) for n in range(25)}


# SQLite, where somebody else reads while it is to be committed


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("make", [create_engine, make_engine], ids=["as the driver is", "real transactions"])
def test_a_commit_that_a_reader_holds_up_loses_nothing_and_can_be_run_again(tmp_path, make):
    archive = Archive(make(f"sqlite:///{tmp_path}/read.db", connect_args={"timeout": 0.2}), tmp_path / "store")
    archive.add({"body": b"one"}, {"body": b"two"})
    for convert, there in ((archive.ingest, {1: b"one", 2: b"two"}), (archive.put_back, {1: None, 2: None})):
        before = archive.files()
        for hold in (0.3, None):  # longer than one COMMIT waits, and shorter than two; and until it is over
            reader = sqlite3.connect(tmp_path / "read.db", check_same_thread=False)
            reading = reader.execute("SELECT id FROM document")
            reading.fetchone()
            timer = threading.Timer(hold or 60, reading.close)
            timer.start()
            with pytest.raises(OperationalError, match="locked"):
                convert("body", on_error="skip")
            timer.cancel()
            timer.join()
            reading.close()
            reader.close()
            with closing(sqlite3.connect(tmp_path / "read.db", timeout=0.2)) as other:  # nobody keeps it locked
                other.execute("UPDATE document SET name = 'x'")
                other.commit()
            assert archive.files() == before
        assert convert("body").rows == 2
        assert archive.files() == there
    archive.engine.dispose()


# What is refused before anything is done


@pytest.mark.parametrize(
    ("old", "options", "told"),
    [
        ("body", {"table": "nothing"}, "no table 'nothing'"),
        ("nothing", {"kind": "text"}, "no column 'nothing'; it has 'id', 'body'"),
        ("body", {"new": "nothing"}, "no column 'nothing'"),
        ("body", {"filename_column": "nothing"}, "no column 'nothing'"),
        ("body", {"policy": "nothing"}, "Unknown storage policy: 'nothing'"),
        ("body", {"policy": "others"}, "a file field of policy 'documents'.*under policy 'others'"),
        ("body", {"policy": "others", "registry": "none"}, "a file field of policy 'documents'.*under policy 'others'"),
        ("body", {"new": "note"}, r"document.note is no file field.*for left over ones; 'report' is known"),
        ("body", {"new": "name", "registry": "none"}, "document.name is no file field"),
        ("body", {"kind": "text"}, "holds bytes: kind='bytes'"),
        ("body", {"kind": "csv"}, "none of 'bytes', 'text', 'paths', 'inline'"),
        ("body", {"kind": "inline"}, "its own column"),
        ("report", {"kind": "text"}, "only kind='inline'"),
        ("path", {"kind": "paths"}, "needs root="),
        ("path", {"kind": "paths", "root": "/no/such/folder"}, "no folder here"),
        ("body", {"root": "/"}, "for kind='paths' only"),
        ("body", {"batch_size": 0}, "batch_size is a number, 1 or more, not 0"),
        ("body", {"batch_bytes": "1M"}, "batch_bytes is a number"),
        ("body", {"on_error": "ignore"}, "neither 'stop' nor 'skip'"),
        ("body", {"encoding": "klingon"}, "no encoding that Python has"),
    ],
)
@pytest.mark.databases("sqlite")
def test_a_conversion_that_cannot_be_is_refused(archive, old, options, told):
    archive.manager._policies["others"] = StoragePolicy("others", "store")
    conversion = {"table": "document", "old": old, "new": "report", "policy": "documents", **options}
    with pytest.raises(Exception, match=told):
        ingest(archive.engine, archive.manager, Conversion(**conversion))


@pytest.mark.databases("postgresql", "mariadb")
def test_text_is_not_converted_as_bytes(archive):
    with pytest.raises(ConfigurationError, match="holds no bytes: kind='text' or 'paths'"):
        archive.ingest("note", kind="bytes")


def test_a_table_without_a_primary_key_is_refused(archive):
    with archive.engine.begin() as connection:
        binary = {"postgresql": "BYTEA"}.get(archive.engine.dialect.name, "BLOB")
        connection.execute(text(f"CREATE TABLE heap (old {binary}, new JSON)"))
    with pytest.raises(ConfigurationError, match=r"no primary key.*create_primary_key"):
        ingest(archive.engine, archive.manager, Conversion(table="heap", old="old", new="new", policy="documents"))


@pytest.mark.databases("postgresql", "mariadb")
def test_a_table_whose_key_is_rounded_is_refused(archive):
    with archive.engine.begin() as connection:
        binary = {"postgresql": "BYTEA"}.get(archive.engine.dialect.name, "BLOB")
        connection.execute(text(f"CREATE TABLE rounded (key_ FLOAT(20) PRIMARY KEY, old {binary}, new JSON)"))
    with pytest.raises(ConfigurationError, match=r"'rounded': its primary key is a number of single precision"):
        ingest(archive.engine, archive.manager, Conversion(table="rounded", old="old", new="new", policy="documents"))


def test_a_connection_that_commits_each_statement_is_refused(archive):
    engine = archive.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        ingest(connection, archive.manager, archive.conversion("body"))


def test_a_connection_in_a_transaction_is_refused(archive):
    with archive.engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(ConfigurationError, match="commit it first, or give the engine"):
            ingest(connection, archive.manager, archive.conversion("body"))


def test_the_way_back_needs_an_outbox_and_a_column_that_may_be_empty(archive, engine, tmp_path):
    with pytest.raises(ConfigurationError, match=r"op\.create_storage_outbox\(\)"):
        archive.put_back("body", outbox="nothing")
    with pytest.raises(ConfigurationError, match="NOT NULL"):
        put_back(engine, archive.manager, Conversion(table="document", old="body", new="id", policy="documents"))


def test_a_schema_is_respected(archive, database, tmp_path):
    schema = {"sqlite": "main", "postgresql": "public"}.get(database.name, database.url.database)
    archive.add({"body": b"one"})
    assert archive.ingest("body", schema=schema).rows == 1
    assert archive.put_back("body", schema=schema).rows == 1
    assert len(archive.freed()) == 1
